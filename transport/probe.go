package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
)

// Probed is what a node said when it was looked at from outside.
type Probed struct {
	Addr   string // that answered
	Node   string
	RTT    time.Duration
	Offset time.Duration // its clock minus ours
	// These are of a node that tells them, and zero otherwise.
	Program string // its version
	Reach   int    // links from it to the farthest node that is up
	Hops    int    // over how many links its questions go
	Aliases string // digest of its aliases of application ids, as in Config
	Tells   bool   // it tells all these
}

// Probe looks whether a node can be reached and accepts this node's certificate, without linking: it
// may be done while the sidecar runs. The error says in plain words what is in the way.
func Probe(ctx context.Context, snap *certs.Snapshot, addr string) (Probed, error) {
	addrs, err := resolve(ctx, addr)
	if err != nil {
		return Probed{}, err
	}
	var p Probed
	for _, to := range addrs {
		if p, err = probe(ctx, snap, to); err == nil {
			break
		}
	}
	return p, err
}

func probe(ctx context.Context, snap *certs.Snapshot, to *net.UDPAddr) (p Probed, err error) {
	// The empty host takes both IPv4 and IPv6.
	socket, err := net.ListenUDP("udp", nil)
	if err != nil {
		return Probed{}, err
	}
	t := &quic.Transport{Conn: socket}
	defer func() { err = errors.Join(err, t.Close(), socket.Close()) }()
	conn, err := t.Dial(ctx, to, snap.DialTLS(alpn), quicConfig())
	if err != nil {
		if err = explain(err); errors.Is(err, ErrNoAnswer) {
			err = knock(to)
		}
		return Probed{}, err
	}
	p, err = ask(ctx, conn)
	if cause := context.Cause(conn.Context()); err != nil && cause != nil {
		err = cause
	}
	err = explain(err)
	// The other side waits for it; an error would be that it has closed already.
	_ = conn.CloseWithError(closeBye, "only a look")
	if err != nil {
		return Probed{}, err
	}
	peer, err := snap.Peer(conn.ConnectionState().TLS)
	p.Node, p.Addr = peer.Node, to.String()
	return p, err
}

// ask sends a ping in place of a hello.
func ask(ctx context.Context, conn *quic.Conn) (Probed, error) {
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return Probed{}, err
	}
	if end, ok := ctx.Deadline(); ok {
		if err := s.SetDeadline(end); err != nil {
			return Probed{}, err
		}
	}
	sent := time.Now()
	if err := writeFrame(s, kindPing, ping{N: 1, Clock: sent.UnixNano()}); err != nil {
		return Probed{}, err
	}
	var pong ping
	if err := expect(s, kindPong, &pong); err != nil {
		return Probed{}, err
	}
	rtt := time.Since(sent)
	if err := checkAliases(pong.Aliases); err != nil {
		return Probed{}, err
	}
	return Probed{RTT: rtt, Offset: time.Duration(pong.Clock - sent.Add(rtt/2).UnixNano()),
		Program: plain(pong.Program), Reach: pong.Reach, Hops: pong.Hops, Aliases: pong.Aliases, Tells: pong.Hops > 0}, nil
}

// explain makes of a failed handshake what an operator can read.
func explain(err error) error {
	if r, ok := certs.RefusalOf(err); ok {
		return fmt.Errorf("its certificate is refused here: %w", r)
	}
	if reason, ok := refusedUs(err); ok {
		return &RefusedError{reason}
	}
	if unanswered(err) {
		return ErrNoAnswer
	}
	return err
}

// Why there was no handshake.
var (
	// ErrNoAnswer says that nothing came back from an address: packets get lost on the way there or back, or the
	// machine is off.
	ErrNoAnswer = errors.New("no answer on UDP")
	// ErrNobody says that the machine answered, and that no program of it has that port.
	ErrNobody = errors.New("the machine answers, but nobody listens on that UDP port")
	// ErrNoHandshake says that small packets come back, and that there was no handshake all the same.
	ErrNoHandshake = errors.New("QUIC is spoken there, but no handshake comes about")
)

// RefusedError says that the other side refuses this node's certificate.
type RefusedError struct{ Reason certs.Reason }

func (e *RefusedError) Error() string {
	return "it refuses this node's certificate: " + e.Reason.String()
}

// refusedUs tells whether a connection ended because the other side refuses this node's certificate.
func refusedUs(err error) (certs.Reason, bool) {
	var te *quic.TransportError
	if errors.As(err, &te) && te.Remote && te.ErrorCode.IsCryptoError() {
		return certs.ReasonOfAlert(uint8(te.ErrorCode))
	}
	return 0, false
}

// unanswered tells whether nothing came back from the other side.
func unanswered(err error) bool {
	var idle *quic.IdleTimeoutError
	var shake *quic.HandshakeTimeoutError
	return errors.As(err, &idle) || errors.As(err, &shake) || errors.Is(err, context.DeadlineExceeded)
}
