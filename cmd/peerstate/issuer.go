package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"peerstate/certs"
	"peerstate/cmd/peerstate/control"
	"peerstate/transport"
)

// With PEERSTATE_CA_DIR this node is the farm's issuer: it invites, renews, revokes, and replaces the CA. What
// it decides it says in a document, which the mesh brings to all nodes. The commands are in files
// of their own (cert_token.go and so on), each with its two ends: what the operator calls, and what the sidecar does.

// openIssuer opens the CA directory, if this node has one.
func (n *sidecar) openIssuer() error {
	if n.settings.CADir == "" {
		return nil
	}
	issuer, err := certs.OpenIssuer(n.settings.CADir, time.Duration(n.settings.CertLife), time.Now())
	if err != nil {
		return usage("PEERSTATE_CA_DIR: %w", err)
	}
	if err := issuer.Belongs(n.certs); err != nil {
		return errors.Join(usage("PEERSTATE_CA_DIR: %w", err), issuer.Close())
	}
	n.log.Info("this node is the farm's issuer", "farm", issuer.Farm(), "directory", n.settings.CADir, "lifetime", n.settings.Value("CertLife"))
	n.issuer = issuer
	n.onStop(func(context.Context) error { return issuer.Close() })
	return nil
}

// decide has the issuer decide something, and brings that to all nodes.
func (n *sidecar) decide(ctx context.Context, what func(now time.Time) (*certs.Document, error)) error {
	if n.issuer == nil {
		return n.noIssuer()
	}
	_, err := n.mesh.Sign(ctx, func(_ *certs.Issuer, now time.Time) (*certs.Document, error) { return what(now) })
	return err
}

// noIssuer says where the operator should go instead.
func (n *sidecar) noIssuer() error {
	if n.mesh == nil {
		return errStandAlone
	}
	for _, p := range n.mesh.Peers() {
		if p.Issuer && p.State == transport.Up {
			return fmt.Errorf("this node is not the farm's issuer: %s is, so run this command there", p.Node)
		}
	}
	return errors.New("this node is not the farm's issuer, and none is up that is: start the node that has PEERSTATE_CA_DIR, " +
		"or, if there is none, set it on one node to the directory that \"peerstate cert init\" made")
}

var errStandAlone = errors.New("this node runs stand-alone: it has no certificate and knows no others")

// commands are what the control socket takes.
func (n *sidecar) commands() map[string]control.Handler {
	return map[string]control.Handler{
		"check": n.checkByCommand, "drain": n.drainByCommand, "forget": n.forgetByCommand,
		"token": n.inviteByCommand, "renew": n.renewByCommand, "revoke": n.revokeByCommand, "unrevoke": n.unrevokeByCommand,
		"explain": n.explainByCommand, "rotate-ca": n.rotateByCommand, "certificates": n.certificatesByCommand, "status": n.statusByCommand,
	}
}

// nodes are all names that are known in the farm, this one's among them, sorted.
func (n *sidecar) nodes() ([]string, error) {
	names, err := n.issuer.Nodes(time.Now())
	if err != nil {
		return nil, err
	}
	names = append(slices.Clone(names), n.name)
	for _, p := range n.mesh.Peers() {
		if p.Node != "" {
			names = append(names, p.Node)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// spread is who has heard of a document, and who has not.
type spread struct {
	Document uint64   `json:"document"`
	Have     []string `json:"have"` // nodes with it in force
	Lack     []string `json:"lack"` // nodes that are not up; with why
}

// spreadTime is how long nodes that are up are waited for. It takes them some round trips.
const spreadTime = 3 * time.Second

// spreadOf waits until all nodes that are up have the issuer's document in force, for a short time at most.
func (n *sidecar) spreadOf(ctx context.Context, except string) spread {
	ctx, cancel := context.WithTimeout(ctx, spreadTime)
	defer cancel()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		s := spread{Have: []string{}, Lack: []string{}}
		if d := n.issuer.Document(); d != nil {
			s.Document = d.Number
		}
		late := n.mesh.Certs().DocumentNumber() < s.Document
		for _, p := range n.mesh.Peers() {
			switch {
			case p.Node == "" || p.Node == except:
			case p.Document >= s.Document:
				s.Have = append(s.Have, p.Node)
			default:
				late = late || p.State == transport.Up
				s.Lack = append(s.Lack, fmt.Sprintf("%s (%s)", p.Node, p.State))
			}
		}
		if !late {
			return s
		}
		select {
		case <-ctx.Done():
			return s
		case <-t.C:
		}
	}
}

// oneNode reads the node that a command is about, from the control socket.
func oneNode(args url.Values) (string, error) {
	node := args.Get("node")
	return node, certs.ValidName(node)
}
