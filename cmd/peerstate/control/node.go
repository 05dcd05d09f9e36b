package control

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"peerstate/certs"
)

// Node is a node as its certificates name it. The zero Node has none: as a sidecar it runs stand-alone, and as the one whom a
// command is for it is whichever answers.
type Node struct {
	Farm string   `json:"farm"`
	Name string   `json:"name"`
	CAs  []string `json:"cas"` // key ids of those that it trusts; none: not known
}

// NodeOf is the node whose certificates a directory has, valid or not; the zero one if there is no directory ("") or they
// cannot be read.
func NodeOf(certDir string) Node {
	if certDir == "" {
		return Node{}
	}
	r, err := certs.Inspect(certDir, time.Now())
	if err != nil || r.Node == nil {
		return Node{}
	}
	return nodeOf(*r.Node, r.Authorities)
}

// Running is the node of a sidecar that has these certificates now.
func Running(s *certs.Snapshot) Node { return nodeOf(s.Self(), s.Authorities()) }

// Named is the node of a sidecar that tells no more of itself; farm is empty if it runs stand-alone.
func Named(farm, name string) Node {
	if farm == "" {
		return Node{}
	}
	return Node{Farm: farm, Name: name}
}

func nodeOf(self certs.Peer, trusted []certs.Authority) Node {
	n := Node{Farm: self.Farm, Name: self.Node}
	for _, a := range trusted {
		n.CAs = append(n.CAs, a.KeyID)
	}
	return n
}

// Another is an [AnotherError] if the sidecar that answers at a place is not the node that n is. While the CA is replaced, one that both
// trust is enough.
func (n Node) Another(answers Node, place string) error {
	strangers := len(n.CAs) > 0 && len(answers.CAs) > 0 && !slices.ContainsFunc(n.CAs, func(ca string) bool { return slices.Contains(answers.CAs, ca) })
	same := n.Farm == answers.Farm && n.Name == answers.Name
	if n.Name == "" || same && !strangers {
		return nil
	}
	own := n.String()
	if same {
		own = "another farm of that name, with another CA"
	}
	return &AnotherError{fmt.Sprintf("at %s answers %s, and the certificates in PEERSTATE_CERT_DIR are of %s", place, answers, own)}
}

// AnotherError says that the sidecar which answers is another node than the command is for. It has done nothing.
type AnotherError struct{ What string }

// AnotherRemedy is what to do about an [AnotherError].
const AnotherRemedy = "name the settings of the one that you mean with --env-file, and give each sidecar on a machine ports of its own"

func (e *AnotherError) Error() string { return e.What + "; " + AnotherRemedy }

func (n Node) String() string {
	if n.Name == "" {
		return "one that runs stand-alone"
	}
	return fmt.Sprintf("the node %s of the farm %s", n.Name, n.Farm)
}

// The headers that say whom a command is for.
const (
	headerFarm = "Peerstate-Farm"
	headerName = "Peerstate-Node"
	headerCA   = "Peerstate-CA" // once for each
)

// put writes n into the headers of a request, and nodeFrom reads it.
func (n Node) put(h http.Header) {
	if n.Name == "" {
		return
	}
	h.Set(headerFarm, n.Farm)
	h.Set(headerName, n.Name)
	for _, ca := range n.CAs {
		h.Add(headerCA, ca)
	}
}

func nodeFrom(h http.Header) Node {
	return Node{Farm: h.Get(headerFarm), Name: h.Get(headerName), CAs: h.Values(headerCA)}
}
