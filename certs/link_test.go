package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// These tests link two nodes as they are linked in real life, with QUIC over UDP, since it is there that
// a refusal must reach both sides.

const protocol = "peerstate-test/1"

// socket is a node's UDP socket, to listen and to dial.
func socket(t *testing.T) *quic.Transport {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	tr := &quic.Transport{Conn: conn}
	t.Cleanup(func() {
		if err := errors.Join(tr.Close(), conn.Close()); err != nil {
			t.Error(err)
		}
	})
	return tr
}

// link tries a link and gives, for each side, whom it found there or why it ended.
func link(t *testing.T, listen, dial *tls.Config) (listener, dialler end) {
	t.Helper()
	for range 10 {
		// quic-go hands out no connection that has ended before it came to that, which a busy machine may do to one that is refused.
		if listener, dialler = linkOnce(t, listen, dial); !errors.Is(listener.err, errNotHandedOut) {
			break
		}
	}
	return listener, dialler
}

// errNotHandedOut is the listener's when the dialler has heard that there is no link, and nothing came to it.
var errNotHandedOut = errors.New("no connection was handed out")

func linkOnce(t *testing.T, listen, dial *tls.Config) (listener, dialler end) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	here, there := socket(t), socket(t)
	accept, err := here.ListenEarly(listen, nil)
	if err != nil {
		t.Fatal(err)
	}
	accepting, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	done := make(chan end)
	go func() { done <- listenOnce(accepting, accept) }()
	dialler = dialOnce(ctx, there, accept.Addr(), dial)
	if dialler.err != nil {
		defer time.AfterFunc(time.Second, func() { giveUp(errNotHandedOut) }).Stop()
	}
	listener = <-done
	if err := accept.Close(); err != nil {
		t.Error(err)
	}
	return listener, dialler
}

// end is what one side of a link learned.
type end struct {
	state *tls.ConnectionState // nil if there was no link
	err   error
}

func listenOnce(ctx context.Context, accept *quic.EarlyListener) end {
	conn, err := accept.Accept(ctx)
	if err != nil {
		return end{err: fmt.Errorf("accept: %w", errors.Join(err, context.Cause(ctx)))}
	}
	select {
	case <-conn.HandshakeComplete():
	case <-conn.Context().Done():
		return end{err: context.Cause(conn.Context())}
	case <-ctx.Done():
		return end{err: ctx.Err()}
	}
	// Tell the dialler that it is in, and wait until it is content.
	stream, err := conn.OpenUniStream()
	if err == nil {
		_, err = stream.Write([]byte("welcome"))
	}
	if err != nil {
		return end{err: err}
	}
	<-conn.Context().Done()
	state := conn.ConnectionState().TLS
	return end{state: &state}
}

func dialOnce(ctx context.Context, from *quic.Transport, to net.Addr, config *tls.Config) end {
	conn, err := from.Dial(ctx, to, config, nil)
	if err != nil {
		return end{err: err}
	}
	stream, err := conn.AcceptUniStream(ctx)
	if err == nil {
		_, err = stream.Read(make([]byte, 7))
	}
	if err != nil {
		return end{err: err}
	}
	state := conn.ConnectionState().TLS
	if err := conn.CloseWithError(0, ""); err != nil {
		return end{err: err}
	}
	return end{state: &state}
}

// theirs reads why the other side has refused us.
func theirs(err error) (Reason, bool) {
	e, ok := errors.AsType[*quic.TransportError](err)
	if !ok || !e.Remote || !e.ErrorCode.IsCryptoError() {
		return 0, false
	}
	return ReasonOfAlert(uint8(e.ErrorCode))
}

func TestTwoNodesOfAFarmKnowEachOther(t *testing.T) {
	ca, now := newCA(t, "farm", time.Now()), time.Now()
	a, b := newNode(t, ca, "web1", now), newNode(t, ca, "web2", now)
	listener, dialler := link(t, a.ListenTLS(protocol), b.DialTLS(protocol))
	if err := errors.Join(listener.err, dialler.err); err != nil {
		t.Fatal(err)
	}
	if peer, err := a.Peer(*listener.state); err != nil || peer != b.Self() {
		t.Errorf("the listener sees %v, %v", peer, err)
	}
	if peer, err := b.Peer(*dialler.state); err != nil || peer != a.Self() {
		t.Errorf("the dialler sees %v, %v", peer, err)
	}
}

// anybody is a TLS configuration for either end that presents a certificate and lets everybody in: the
// refusal must come from the other side.
func anybody(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		NextProtos:           []string{protocol},
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
		ClientAuth:           tls.RequestClientCert,
		InsecureSkipVerify:   true,
	}
}

// strangers are all kinds of nodes that must get nothing from a node of the CA's farm.
func strangers(t *testing.T, ca *CA) map[Reason]tls.Certificate {
	now := time.Now()
	return map[Reason]tls.Certificate{
		AnotherCA:   newNode(t, newCA(t, ca.Farm(), now), "web1", now).cert,
		AnotherFarm: forge(t, ca, now, func(c *x509.Certificate) { c.URIs = []*url.URL{Identity{"other", "web1"}.URI()} }),
		Expired:     forge(t, ca, now.Add(-2*day), func(*x509.Certificate) {}),
		NotYetValid: forge(t, ca, now.Add(2*day), func(*x509.Certificate) {}),
		NoNodeName:  forge(t, ca, now, func(c *x509.Certificate) { c.URIs = nil }),
		Unfit:       forge(t, ca, now, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }),
		Revoked:     forge(t, ca, now, func(c *x509.Certificate) { c.URIs = []*url.URL{Identity{ca.Farm(), "web9"}.URI()} }),
		Unreadable:  {Certificate: [][]byte{[]byte("junk")}, PrivateKey: ca.key},
		Absent:      {},
	}
}

func TestADiallerWithoutAValidCertificateGetsNothingAndBothSidesKnowWhy(t *testing.T) {
	ca := newCA(t, "farm", time.Now())
	a := newNode(t, ca, "web2", time.Now())
	all := strangers(t, ca)
	a.trust = a.trust.under(newDocument(t, ca, 1, Revocation{Node: "web9", Before: time.Now()}))
	for _, reason := range allReasons {
		t.Run(reason.String(), func(t *testing.T) {
			listener, dialler := link(t, a.ListenTLS(protocol), anybody(all[reason]))
			mustRefuse(t, listener, dialler, reason)
		})
	}
}

func TestAListenerWithoutAValidCertificateGetsNothingAndBothSidesKnowWhy(t *testing.T) {
	ca := newCA(t, "farm", time.Now())
	a := newNode(t, ca, "web2", time.Now())
	all := strangers(t, ca)
	a.trust = a.trust.under(newDocument(t, ca, 1, Revocation{Node: "web9", Before: time.Now()}))
	for _, reason := range allReasons {
		t.Run(reason.String(), func(t *testing.T) {
			cert, want := all[reason], reason
			if reason == Absent {
				// TLS has only one alert for none and for one that cannot be read, on this side.
				cert, want = tls.Certificate{PrivateKey: ca.key}, Unreadable
			}
			listener, dialler := link(t, anybody(cert), a.DialTLS(protocol))
			mustRefuse(t, dialler, listener, want)
		})
	}
}

func mustRefuse(t *testing.T, refusing, refused end, want Reason) {
	t.Helper()
	if r, ok := RefusalOf(refusing.err); !ok || r.Reason != want || r.Detail == "" {
		t.Errorf("the refusing side has %v, want a refusal for %q", refusing.err, want)
	}
	if r, ok := theirs(refused.err); !ok || r != want {
		t.Errorf("the refused side has %v, want to read %q in it", refused.err, want)
	}
	// Neither mistakes the other's word for its own.
	if _, ok := theirs(refusing.err); ok {
		t.Error("the refusing side believes to be refused")
	}
	if _, ok := RefusalOf(refused.err); ok {
		t.Error("the refused side believes to refuse")
	}
	// The particulars stay on the side that refuses.
	if strings.Contains(fmt.Sprint(refused.err), "certificate of") {
		t.Errorf("the refused side is told too much: %v", refused.err)
	}
}

func TestNodesOfTwoFarmsRefuseEachOther(t *testing.T) {
	now := time.Now()
	a, b := newNode(t, newCA(t, "one", now), "web1", now), newNode(t, newCA(t, "two", now), "web1", now)
	listener, dialler := link(t, a.ListenTLS(protocol), b.DialTLS(protocol))
	mustRefuse(t, dialler, listener, AnotherCA)
}
