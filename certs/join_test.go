package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
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

func TestAnInvitationServesOneKeyOnly(t *testing.T) {
	h := newHost(t)
	token := h.invite("web2")
	j := newJoin(t, token)
	first, peer, err := h.join(j)
	if err != nil {
		t.Fatal(err)
	}
	// The answer was lost, and the issuer restarted.
	h.close()
	h.open()
	if !h.i.Inviting(h.now) {
		t.Error("nobody is listened to any more")
	}
	again, samePeer, err := h.join(j)
	if err != nil || !bytes.Equal(first, again) || peer != samePeer {
		t.Errorf("asked again: %v, %v", samePeer, err)
	}
	if _, _, err := h.join(newJoin(t, token)); !errors.Is(err, ErrInvitationUsed) {
		t.Errorf("another key: %v", err)
	}
	h.now = token.Expires
	if _, _, err := h.join(j); !errors.Is(err, ErrInvitationExpired) {
		t.Errorf("after its end: %v", err)
	}
	if h.i.Inviting(h.now) {
		t.Error("still inviting")
	}
}

func TestWhoIsNotInvitedIsNotAdmitted(t *testing.T) {
	h := newHost(t)
	token := h.invite("web2")
	wrongSecret := *token
	wrongSecret.secret = bytes.Repeat([]byte{1}, secretSize)
	if _, _, err := h.join(newJoin(t, &wrongSecret)); !errors.Is(err, ErrNotInvited) {
		t.Errorf("a wrong secret: %v", err)
	}
	// A request that was made for another connection, as a go-between would pass it on.
	j := newJoin(t, token)
	_, elsewhere := h.meet(j.TLS())
	request, err := j.Request(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	here, _ := h.meet(j.TLS())
	if _, _, err := h.i.Admit(request, here, h.now); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("another connection's proof: %v", err)
	}
	// With another key in it.
	var w joinRequest
	if err := decode("", request, MaxJoinRequest, &w); err != nil {
		t.Fatal(err)
	}
	here, there := h.meet(j.TLS())
	if request, err = j.Request(there); err != nil {
		t.Fatal(err)
	}
	var changed joinRequest
	if err := decode("", request, MaxJoinRequest, &changed); err != nil {
		t.Fatal(err)
	}
	changed.CSR = newJoin(t, token).csr
	data, err := encoding.Marshal(changed)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.i.Admit(data, here, h.now); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("another key: %v", err)
	}
	for _, junk := range [][]byte{nil, []byte("junk"), make([]byte, MaxJoinRequest+1)} {
		if _, _, err := h.i.Admit(junk, here, h.now); !isJoinRefusal(err) {
			t.Errorf("junk: %v", err)
		}
	}
	if nodes, err := h.i.Nodes(h.now); err != nil || fmt.Sprint(nodes) != "[web1]" {
		t.Errorf("the nodes are %v, %v", nodes, err)
	}
	if _, _, err := h.join(j); err != nil {
		t.Errorf("the right one, after all that: %v", err)
	}
}

func isJoinRefusal(err error) bool {
	_, ok := errors.AsType[*JoinRefusal](err)
	return ok
}

func TestWrongTriesAreLimitedButDoNotKeepTheRightOneOut(t *testing.T) {
	h := newHost(t)
	j := newJoin(t, h.invite("web2"))
	here, _ := h.meet(j.TLS())
	refused := 0
	for range 3 * triesAtOnce {
		if _, _, err := h.i.Admit([]byte("junk"), here, h.now); errors.Is(err, ErrTooManyTries) {
			refused++
		} else if !isJoinRefusal(err) {
			t.Fatal(err)
		}
	}
	if refused != 2*triesAtOnce {
		t.Errorf("%d were too many", refused)
	}
	if _, _, err := h.join(j); err != nil {
		t.Errorf("the right one: %v", err)
	}
}

func TestAHundredWrongProofsEndAnInvitation(t *testing.T) {
	h := newHost(t)
	j := newJoin(t, h.invite("web2"))
	_, elsewhere := h.meet(j.TLS())
	request, err := j.Request(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	here, _ := h.meet(j.TLS())
	for n := range maxWrong {
		if !h.i.Inviting(h.now) {
			t.Fatalf("ended after %d", n)
		}
		if _, _, err := h.i.Admit(request, here, h.now); !isJoinRefusal(err) {
			t.Fatal(err)
		}
	}
	if h.i.Inviting(h.now) {
		t.Error("still inviting")
	}
	h.now = h.now.Add(time.Minute)
	if _, _, err := h.join(j); !errors.Is(err, ErrNotInvited) {
		t.Errorf("the right one, too late: %v", err)
	}
}

func TestAKeyThatIsKnownIsNotAdmitted(t *testing.T) {
	h := newHost(t)
	old := newJoin(t, h.invite("web2"))
	if _, _, err := h.join(old); err != nil {
		t.Fatal(err)
	}
	// The same key under another invitation.
	for _, node := range []string{"web2", "web3"} {
		j := newJoin(t, h.invite(node))
		j.key, j.csr = old.key, old.csr
		if _, _, err := h.join(j); !errors.Is(err, ErrKnownKey) {
			t.Errorf("%s: %v", node, err)
		}
	}
	// Forgotten, but revoked; and even when that was taken back.
	if _, err := h.i.Revoke("web2", nil, h.now); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(h.dir, issuedDir)); err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{"revoked", ErrKnownKey.Reason} {
		j := newJoin(t, h.invite("web3"))
		j.key, j.csr = old.key, old.csr
		if _, _, err := h.join(j); !isJoinRefusal(err) || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one with %q", err, says)
		}
		if says == "revoked" {
			if _, err := h.i.Unrevoke("web2", h.now); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestARevokedNodeIsInvitedAgainAndOnlyItsNewCertificateIsGood(t *testing.T) {
	h := newHost(t)
	old := newJoin(t, h.invite("web2"))
	reply, oldPeer, err := h.join(old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Install(reply, h.now); err != nil {
		t.Fatal(err)
	}
	before := h.load(old.dir)
	if _, err := h.i.Revoke("web2", nil, h.now); err != nil {
		t.Fatal(err)
	}
	// Not even with the answer that was lost.
	if _, _, err := h.join(old); !isJoinRefusal(err) {
		t.Errorf("error %v", err)
	}
	r := newRequest(t, before, h.now)
	if _, _, err := h.i.Renew(r.Bytes(), h.now); !refusedFor(err, Revoked) {
		t.Errorf("renewed: %v", err)
	}
	h.now = h.now.Add(time.Second)
	j := newJoin(t, h.invite("web2"))
	reply, peer, err := h.join(j)
	if err != nil || peer.Key == oldPeer.Key {
		t.Fatal(peer, err)
	}
	if _, err := j.Install(reply, h.now); err != nil {
		t.Fatal(err)
	}
	s := h.load(j.dir)
	if _, _, err := h.i.Renew(newRequest(t, s, h.now).Bytes(), h.now); err != nil {
		t.Errorf("the new one is not renewed: %v", err)
	}
	if _, err := s.trust.verify([]*x509.Certificate{before.cert.Leaf}, h.now, x509.ExtKeyUsageClientAuth); !refusedFor(err, Revoked) {
		t.Errorf("the old one: %v", err)
	}
}

func refusedFor(err error, want Reason) bool {
	r, ok := errors.AsType[*Refusal](err)
	return ok && r.Reason == want
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

func TestACrashWhileANodeIsAdmittedIsMadeGoodWhenItAsksAgain(t *testing.T) {
	for at := range 2 {
		h := newHost(t)
		j := newJoin(t, h.invite("web2"))
		left := at
		h.i.dir.before = func(string) error {
			if left--; left < 0 {
				return errCrash
			}
			return nil
		}
		h.i.issued.in, h.i.invitations.in = h.i.dir, h.i.dir
		if _, _, err := h.join(j); !errors.Is(err, errCrash) {
			t.Fatalf("crash %d: %v", at, err)
		}
		h.close()
		h.open()
		reply, _, err := h.join(j)
		if err == nil {
			_, err = j.Install(reply, h.now)
		}
		if err != nil {
			t.Errorf("crash %d: %v", at, err)
		}
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

// FuzzAdmit sends arbitrary bytes to the issuer, as they are and in a request that is otherwise right: nobody
// gets in without the secret, and only a key that was proven gets a certificate.
func FuzzAdmit(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "ca")
	now := time.Now()
	ca, err := CreateCA(dir, "farm", DefaultCALife, now)
	if err != nil {
		f.Fatal(err)
	}
	node := newNode(f, ca, "web1", now)
	i, err := OpenIssuer(dir, DefaultRenewedLife, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := i.Close(); err != nil {
			f.Error(err)
		}
	})
	text, err := i.Invite("web2", day, "web1", []string{"a:1"}, now)
	if err != nil {
		f.Fatal(err)
	}
	token, err := ParseToken(text)
	if err != nil {
		f.Fatal(err)
	}
	j, err := NewJoin(token, filepath.Join(f.TempDir(), "web2"))
	if err != nil {
		f.Fatal(err)
	}
	a, b := net.Pipe()
	server, client := tls.Server(a, i.JoinTLS(node)), tls.Client(b, j.TLS())
	done := make(chan error)
	go func() { done <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-done); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			f.Error(err)
		}
	})
	state := server.ConnectionState()
	request, err := j.Request(client.ConnectionState())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	f.Add(j.csr)
	f.Add([]byte{0xa1, 1, 0x40})
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, peer, err := i.Admit(data, state, now); err == nil {
			if peer.Node != "web2" || !bytes.Equal(data, request) {
				var w joinRequest
				if derr := decode("", data, MaxJoinRequest, &w); derr != nil || !bytes.Equal(w.CSR, j.csr) {
					t.Errorf("%v is in", peer)
				}
			}
		} else if !isJoinRefusal(err) || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("error %q", err)
		}
		if _, err := i.ca.trust.requestedKey(data); err == nil {
			csr, err := x509.ParseCertificateRequest(data)
			if err != nil || csr.CheckSignature() != nil {
				t.Errorf("a key that was not proven is accepted")
			}
		}
	})
}
