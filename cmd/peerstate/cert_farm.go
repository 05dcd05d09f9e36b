package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"peerstate/certs"
	"peerstate/cmd/peerstate/control"
	"peerstate/cmd/peerstate/settings"
)

// nodeCertificate is the certificate of one node of the farm, as the running sidecar knows it. The names in JSON
// are those of a peer in /api/status.
type nodeCertificate struct {
	Node     string     `json:"node"`
	State    string     `json:"state"`
	Issuer   string     `json:"cert_issuer"` // key id of the CA
	Serial   string     `json:"cert_serial"`
	Expires  *time.Time `json:"cert_expires"` // nil: not known
	Document uint64     `json:"document"`
	Rotation string     `json:"rotation"`
}

// farmCertificates are those of this node and of all that it knows.
func (n *sidecar) farmCertificates() []nodeCertificate {
	s := n.mesh.Certs()
	self := s.Self()
	all := []nodeCertificate{{self.Node, "this node", self.IssuerKey, self.Serial, &self.Expires, s.DocumentNumber(),
		rotationOf(s, self, s.DocumentNumber())}}
	for _, p := range n.mesh.Peers() {
		c := nodeCertificate{Node: cmp.Or(p.Node, p.Addr), State: string(p.State), Issuer: p.Cert.IssuerKey, Serial: p.Cert.Serial, Document: p.Document,
			Rotation: rotationOf(s, p.Cert, p.Document)}
		if !p.Cert.Expires.IsZero() {
			c.Expires = &p.Cert.Expires
		}
		all = append(all, c)
	}
	return all
}

// What a node still has to do in the present stage of the replacement of the CA.
const (
	rotationBehind = "behind"          // it has an older document than this node
	rotationOld    = "old certificate" // it has one of the CA that is to be dropped
	rotationDone   = "done"
)

// rotationOf tells how far a node is in the replacement of the CA; empty: none is under way.
func rotationOf(s *certs.Snapshot, c certs.Peer, document uint64) string {
	d := s.Document()
	switch {
	case d == nil || d.Rotation.Stage == certs.NoRotation:
		return ""
	case document < d.Number:
		return rotationBehind
	case d.Rotation.Stage != certs.Trust && c.IssuerKey != d.Rotation.To:
		return rotationOld
	}
	return rotationDone
}

func (n *sidecar) certificatesByCommand(_ context.Context, _ url.Values, report func(any)) error {
	if n.mesh == nil {
		return errStandAlone
	}
	report(n.farmCertificates())
	return nil
}

// askForCertificates asks the sidecar that runs with these settings; nil: none does.
func askForCertificates(ctx context.Context, s *settings.Settings) (all []nodeCertificate, err error) {
	if _, err := s.ControlSocket(); err != nil {
		return nil, nil // its port is only known to itself
	}
	err = askSidecar(ctx, func() (*settings.Settings, error) { return s, nil }, "certificates", nil, func(list []nodeCertificate) error {
		all = list
		return nil
	})
	if errors.Is(err, control.ErrNotRunning) {
		return nil, nil
	}
	return all, err
}

// farmCertificatesText is a table of them.
func farmCertificatesText(all []nodeCertificate, now time.Time) string {
	var out strings.Builder
	out.WriteString("The nodes of the farm, as the running sidecar knows them\n\n")
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  node\tstate\tserial\tCA's key\tends\tdocument\treplacing the CA")
	for _, c := range all {
		ends, document := "not known", "-"
		if c.Expires != nil {
			ends = certDate(*c.Expires, now)
		}
		if c.Document > 0 {
			document = strconv.FormatUint(c.Document, 10)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Node, c.State, cmp.Or(c.Serial, "-"), cmp.Or(c.Issuer[:min(len(c.Issuer), 8)], "-"),
			ends, document, cmp.Or(c.Rotation, "-"))
	}
	_ = w.Flush() // into memory
	out.WriteByte('\n')
	return out.String()
}
