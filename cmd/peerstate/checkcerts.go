package main

import (
	"errors"
	"time"

	"peerstate/certs"
)

// checkCertificates looks at the files that PEERSTATE_CERT_DIR must have.
func checkCertificates(s *settings) []finding {
	r, err := certs.Inspect(s.CertDir, time.Now())
	if err != nil {
		return []finding{fault("PEERSTATE_CERT_DIR: "+err.Error(),
			"peerstate cert issue makes ca.crt, node.crt and node.key; copy them there, or set PEERSTATE_CERT_DIR to where they are")}
	}
	var all []finding
	for _, p := range r.Problems {
		if f, ok := errors.AsType[*certs.FileError](p); ok {
			all = append(all, fault(f.Path+": "+f.Err.Error(), f.Remedy))
			continue
		}
		all = append(all, fault(p.Error(), ""))
	}
	for _, w := range r.Warnings {
		all = append(all, warning(w, ""))
	}
	switch {
	case len(r.Problems) > 0:
	case r.Node == nil:
		all = append(all, fault(s.CertDir+" has a CA but no certificate of a node",
			"peerstate cert issue makes one; a CA's directory is not a node's"))
	default:
		all = append(all, good("the certificate of node %s (farm %s) is valid until %s", r.Node.Node, r.Node.Farm,
			r.Node.Expires.Format(time.DateOnly)))
	}
	return all
}
