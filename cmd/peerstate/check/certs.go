package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"peerstate/certs"
	"peerstate/cmd/peerstate/ending"
	"peerstate/cmd/peerstate/settings"
)

// checkCertificates looks at the files that PEERSTATE_CERT_DIR must have.
func checkCertificates(s *settings.Settings) []Finding {
	r, err := certs.Inspect(s.CertDir, time.Now())
	if errors.Is(err, fs.ErrPermission) {
		return []Finding{fault("PEERSTATE_CERT_DIR: "+err.Error(), "then run check again")}
	}
	if err != nil {
		return []Finding{fault("PEERSTATE_CERT_DIR: "+err.Error(),
			"peerstate cert issue makes ca.crt, node.crt and node.key; copy them there, or set PEERSTATE_CERT_DIR to where they are")}
	}
	all := inspected(r)
	switch {
	case len(r.Problems) > 0:
	case r.Node == nil:
		all = append(all, fault(s.CertDir+" has a CA but no certificate of a node",
			"peerstate cert issue makes one; a CA's directory is not a node's"))
	default:
		all = append(all, good("the certificate of node %s (farm %s) is valid until %s", r.Node.Node, r.Node.Farm,
			r.Node.Expires.Format(time.DateOnly)))
		all = append(all, checkCAEnd(s.CertDir, time.Now())...)
		all = append(all, checkReplaceable(s.CertDir)...)
	}
	return all
}

// checkReplaceable says that this account could not replace the certificate, as the node does when it is renewed. It may be
// another account than the sidecar's; then it is that one's finding.
func checkReplaceable(dir string) []Finding {
	for _, name := range []string{certs.NodeCert, certs.NodeKey} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return []Finding{warning(fmt.Sprintf("PEERSTATE_CERT_DIR: this account cannot write there, so it cannot take a renewed certificate in: %v", err),
				"run check under the account that runs peerstate; if it is that one, let it write in the directory")}
		}
	}
	return nil
}

// checkCAEnd says that the CA ends soon that has signed the node's certificate. (Of that one Inspect has spoken.)
func checkCAEnd(dir string, now time.Time) (all []Finding) {
	snap, err := certs.Load(dir, now)
	if err != nil {
		return nil // as Inspect has said
	}
	for _, e := range ending.Of(snap)[1:] {
		if _, _, soon := ending.Urgency(e.Ends.Sub(now), e.Ends.Sub(e.Begun)); soon {
			all = append(all, warning(fmt.Sprintf("%s ends soon, on %s", e.What, e.Ends.Format(time.DateOnly)), e.Advice))
		}
	}
	return all
}

// inspected is what is wrong with the files in a directory.
func inspected(r *certs.Report) (all []Finding) {
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
	return all
}

// checkIssuer looks at the CA directory of the farm's issuer.
func checkIssuer(s *settings.Settings) []Finding {
	if s.CADir == "" {
		return nil
	}
	r, err := certs.Inspect(s.CADir, time.Now())
	if err != nil {
		return []Finding{fault("PEERSTATE_CA_DIR: "+err.Error(),
			"set it to the directory that peerstate cert init made, or leave it empty if this node is not the farm's issuer")}
	}
	if _, err := os.Stat(filepath.Join(s.CADir, certs.CAKey)); errors.Is(err, fs.ErrNotExist) {
		return []Finding{fault(s.CADir+" has no key of a CA (ca.key)", "set PEERSTATE_CA_DIR to the directory that peerstate cert init made")}
	}
	all := inspected(r)
	if len(r.Problems) > 0 {
		return all
	}
	node, err := certs.Load(s.CertDir, time.Now())
	if err != nil {
		return all // checkCertificates has said what is wrong
	}
	trusted := node.Authorities()
	i := slices.IndexFunc(trusted, func(a certs.Authority) bool { return a.KeyID == r.Signing })
	if i < 0 {
		return append(all, fault(fmt.Sprintf("the CA in %s (farm %s) is not trusted by this node (farm %s)", s.CADir, r.Farm, node.Self().Farm),
			"set PEERSTATE_CA_DIR to the directory of this farm's CA, or restore its newest copy"))
	}
	return append(all, good("this node is the issuer of the farm %s; its CA is valid until %s", r.Farm, trusted[i].Expires.Format(time.DateOnly)))
}
