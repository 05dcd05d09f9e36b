package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

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
