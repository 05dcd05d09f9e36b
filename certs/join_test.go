package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// host is an issuer with its own node, to join at.
type host struct {
	t    *testing.T
	dir  string
	i    *Issuer
	node *Snapshot
	now  time.Time
}

func newHost(t *testing.T) *host {
	t.Helper()
	now := time.Now()
	ca := newCA(t, "farm", now)
	h := &host{t: t, dir: ca.dir, node: newNode(t, ca, "web1", now), now: now}
	h.open()
	t.Cleanup(func() { h.close() })
	return h
}

func (h *host) open() {
	h.t.Helper()
	var err error
	if h.i, err = OpenIssuer(h.dir, DefaultRenewedLife, h.now); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) close() {
	if err := h.i.Close(); err != nil {
		h.t.Error(err)
	}
}

func (h *host) load(dir string) *Snapshot {
	h.t.Helper()
	s, err := Load(dir, h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *host) invite(node string) *Token {
	h.t.Helper()
	text, err := h.i.Invite(node, time.Hour, "web1", []string{"192.0.2.1:42425"}, h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	token, err := ParseToken(text)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

func newJoin(t *testing.T, token *Token) *Join {
	t.Helper()
	j, err := NewJoin(token, filepath.Join(t.TempDir(), token.Node))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// meet connects the two over TLS and gives both ends' states.
func (h *host) meet(config *tls.Config) (issuer, joiner tls.ConnectionState) {
	h.t.Helper()
	a, b, err1, err2 := handshake(h.t, h.i.JoinTLS(h.node), config)
	if err := errors.Join(err1, err2); err != nil {
		h.t.Fatal(err)
	}
	return a.ConnectionState(), b.ConnectionState()
}

// join asks once.
func (h *host) join(j *Join) ([]byte, Peer, error) {
	h.t.Helper()
	issuer, joiner := h.meet(j.TLS())
	request, err := j.Request(joiner)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.i.Admit(request, issuer, h.now)
}

func TestAnInvitedNodeJoinsWithAKeyOfItsOwn(t *testing.T) {
	h := newHost(t)
	for _, withDocument := range []bool{false, true} {
		name := fmt.Sprint("new-", withDocument)
		if withDocument {
			if _, err := h.i.Revoke("web9", nil, h.now); err != nil {
				t.Fatal(err)
			}
		}
		j := newJoin(t, h.invite(name))
		reply, peer, err := h.join(j)
		if err != nil {
			t.Fatal(err)
		}
		if len(reply) > MaxJoinReply || bytes.Contains(reply, j.token.secret) {
			t.Error("the reply tells too much")
		}
		installed, err := j.Install(reply, h.now)
		if err != nil || installed != peer {
			t.Fatalf("%v, %v, want %v", installed, err, peer)
		}
		s, err := Load(j.dir, h.now)
		if err != nil || s.Self() != peer || s.Self().Node != name || !s.Document().Equal(h.i.Document()) {
			t.Errorf("loaded as %v, %v", s, err)
		}
		if got := peer.Expires.Sub(h.now); got > DefaultRenewedLife || got < DefaultRenewedLife-time.Minute {
			t.Errorf("it lasts %v", got)
		}
		if _, err := s.trust.verify([]*x509.Certificate{h.node.cert.Leaf}, h.now, x509.ExtKeyUsageServerAuth); err != nil {
			t.Errorf("the new node refuses the issuer: %v", err)
		}
		if nodes, err := h.i.Nodes(h.now); err != nil || !strings.Contains(fmt.Sprint(nodes), name) {
			t.Errorf("the nodes are %v, %v", nodes, err)
		}
		if _, err := j.Install(reply, h.now); !errors.Is(err, fs.ErrExist) {
			t.Errorf("installed twice: %v", err)
		}
	}
}

func TestAJoiningNodeSaysNothingToAnybodyButTheIssuer(t *testing.T) {
	h := newHost(t)
	token := h.invite("web2")
	ca, err := LoadCA(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		present *Snapshot
		change  func(*Token)
		why     Reason
	}{
		"another farm's node of that name": {newNode(t, newCA(t, "farm", h.now), "web1", h.now), nil, AnotherCA},
		"another node of the farm":         {newNode(t, ca, "web7", h.now), nil, Unfit},
		"a token of another CA":            {h.node, func(t *Token) { t.CA = []string{strings.Repeat("0", 64)} }, AnotherCA},
		"a token of another farm":          {h.node, func(t *Token) { t.Farm = "other" }, AnotherCA},
	} {
		other := *token
		if c.change != nil {
			c.change(&other)
		}
		_, _, _, err := handshake(t, h.i.JoinTLS(c.present), newJoin(t, &other).TLS())
		if !refusedFor(err, c.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A chain without the CA, with one that is no CA, and none.
	leaf := h.node.cert.Leaf
	for _, chain := range [][]*x509.Certificate{nil, {leaf}, {leaf, leaf}, {ca.cert, ca.cert}} {
		if err := token.verifyIssuer(chain, h.now); !isRefusal(err) {
			t.Errorf("a chain of %d: %v", len(chain), err)
		}
	}
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*Refusal](err)
	return ok
}

func TestAReplyThatTheInvitationDoesNotVouchForIsNotTakenIn(t *testing.T) {
	h := newHost(t)
	j := newJoin(t, h.invite("web2"))
	reply, _, err := h.join(j)
	if err != nil {
		t.Fatal(err)
	}
	var good joinReply
	if err := decode("", reply, MaxJoinReply, &good); err != nil {
		t.Fatal(err)
	}
	other := newCA(t, "farm", h.now)
	foreign, err := other.sign("web2", &j.key.PublicKey, day, h.now)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := LoadCA(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	wrongName, err := mine.sign("web3", &j.key.PublicKey, day, h.now)
	if err != nil {
		t.Fatal(err)
	}
	wrongKey := newNode(t, mine, "web2", h.now).cert.Leaf
	for name, w := range map[string]joinReply{
		"another CA's":          {Certificate: foreign.Raw, CAs: [][]byte{other.cert.Raw}},
		"another CA beside":     {Certificate: foreign.Raw, CAs: [][]byte{mine.cert.Raw, other.cert.Raw}},
		"another CA's document": {Certificate: foreign.Raw, Document: newDocument(t, other, 1).Bytes()},
		"another name":          {Certificate: wrongName.Raw, CAs: good.CAs},
		"another key":           {Certificate: wrongKey.Raw, CAs: good.CAs},
		"no CA":                 {Certificate: good.Certificate},
		"no certificate":        {CAs: good.CAs},
	} {
		data, err := encoding.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		if peer, err := j.Install(data, h.now); err == nil || exists(t, filepath.Join(j.dir, CACert)) {
			t.Errorf("%s: %v, %v", name, peer, err)
		}
	}
	// Of several CAs, only the one that is vouched for is believed.
	good.CAs = append(good.CAs, other.cert.Raw)
	data, err := encoding.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Install(data, h.now); err != nil {
		t.Fatal(err)
	}
	if s := h.load(j.dir); len(s.Authorities()) != 1 {
		t.Errorf("it trusts %v", s.Authorities())
	}
}

func TestANodeJoinsAtEachStageOfARotation(t *testing.T) {
	f := newIssuerFarm(t, "web1", "web2")
	h := &host{t: t, dir: f.dir, i: f.issuer, node: f.nodes["web1"].s, now: f.now}
	f.rotate()
	for _, stage := range []Stage{Trust, Renew, Drop, NoRotation} {
		f.reach(stage)
		f.tell(f.nodes["web1"], f.issuer.Document())
		h.node, h.now = f.nodes["web1"].s, f.later()
		name := "new-" + string(stage) + "0"
		text, err := f.issuer.Invite(name, time.Hour, "web1", []string{"a:1"}, h.now)
		if err != nil {
			t.Fatal(err)
		}
		token, err := parseToken(text)
		if err != nil {
			t.Fatal(err)
		}
		j := newJoin(t, token)
		reply, _, err := h.join(j)
		if err != nil {
			t.Fatalf("stage %q: %v", stage, err)
		}
		if _, err := j.Install(reply, h.now); err != nil {
			t.Fatalf("stage %q: %v", stage, err)
		}
		s, err := Load(j.dir, h.now)
		if err != nil {
			t.Fatal(err)
		}
		f.nodes[name] = &farmNode{name: name, dir: j.dir, s: s}
		f.check("joined at " + string(stage))
		if p := f.advance(); stage != NoRotation && !strings.Contains(fmt.Sprint(p.Waiting), name) {
			t.Errorf("stage %q does not wait for the new node: %+v", stage, p)
		}
	}
}

func TestAnInvitationFromBeforeTheRotationSaysThatAnotherIsNeeded(t *testing.T) {
	f := newIssuerFarm(t, "web1")
	text, err := f.issuer.Invite("web2", day, "web1", []string{"a:1"}, f.now)
	if err != nil {
		t.Fatal(err)
	}
	token, err := parseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	f.rotate()
	f.reach(NoRotation)
	_, _, _, err = handshake(t, f.issuer.JoinTLS(f.nodes["web1"].s), newJoin(t, token).TLS())
	if !refusedFor(err, AnotherCA) || !strings.Contains(err.Error(), "new invitation") {
		t.Errorf("error %v", err)
	}
}

func TestADirectoryThatIsNotFreeIsKnownBeforeTheInvitationIsUsed(t *testing.T) {
	token := someToken()
	for _, name := range []string{CACert, NodeKey, filepath.Join(StateDir, DocumentFile)} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, StateDir), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, dir, name, []byte("precious"))
		if _, err := NewJoin(token, dir); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Over QUIC, where joining takes place, the two ends agree about what binds a proof to the connection, too.
func TestAProofIsBoundToAQUICConnection(t *testing.T) {
	h := newHost(t)
	j := newJoin(t, h.invite("web2"))
	listener, dialler := link(t, h.i.JoinTLS(h.node), j.TLS())
	if err := errors.Join(listener.err, dialler.err); err != nil {
		t.Fatal(err)
	}
	request, err := j.Request(*dialler.state)
	if err != nil {
		t.Fatal(err)
	}
	if _, peer, err := h.i.Admit(request, *listener.state, h.now); err != nil || peer.Node != "web2" {
		t.Errorf("%v, %v", peer, err)
	}
}
