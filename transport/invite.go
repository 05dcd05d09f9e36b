package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
)

// The issuer's side of joining. A node that is invited has no certificate yet, so it comes in a protocol of its own
// (certs.JoinALPN), which is served on the issuer alone, and there only while somebody is invited (see listenTLS).
// Anybody can make such a connection. It never becomes a link: no frame on it reaches what serves links, and one
// request is answered.

// Frames of that protocol. Their numbers are none of those on links.
const (
	// kindJoin is the request.
	kindJoin kind = 200 + iota
	// kindAdmitted answers it, with what the issuer has to say as its body, and kindMembers after it.
	kindAdmitted
	kindMembers // a nodeList
	// kindNotAdmitted turns it down.
	kindNotAdmitted
)

// joinRequest asks for a certificate.
type joinRequest struct {
	Request []byte `cbor:"1,keyasint"` // of certs.Join
	Clock   int64  `cbor:"2,keyasint"` // ns since 1970
}

type admitted struct {
	Size int64 `cbor:"1,keyasint"` // of the reply, for certs.Join
}

type notAdmitted struct {
	Text  string `cbor:"1,keyasint"`
	Again bool   `cbor:"2,keyasint,omitempty"` // it may be another time
}

const (
	// maxApplicants is how many are heard at a time. Each may have 1 MiB under way (quicConfig).
	maxApplicants = 8
	// visitFor is how long a connection of one who joins may last.
	visitFor = 10 * time.Second
	// joinSkew is how far a new node's clock may be off. With more it could not renew its certificate.
	joinSkew = time.Hour
	// maxMembers is about how many bytes of names and addresses a new node is told; it hears of the rest when it
	// is linked.
	maxMembers = maxHeader * 3 / 4

	closeBusy quic.ApplicationErrorCode = 100 // others are being served; try again
)

// inviteTLS is the configuration for a dialler that wants to join; nil: nobody can at this moment, or it wants
// something else.
func (m *Mesh) inviteTLS(hello *tls.ClientHelloInfo) *tls.Config {
	issuer := m.config.Issuer
	if issuer == nil || !slices.Contains(hello.SupportedProtos, certs.JoinALPN) || slices.Contains(hello.SupportedProtos, alpn) ||
		!issuer.Inviting(time.Now()) {
		return nil
	}
	return issuer.JoinTLS(m.Certs())
}

// applicants are the connections of those who want to join.
type applicants struct {
	mu  sync.Mutex
	all []*applicant
}

type applicant struct {
	conn *quic.Conn
	// guarded by applicants.mu:
	since   time.Time // it came, or its request was decided
	serving bool      // its request is being decided
}

// enter gives a connection a place. If all are taken the one goes that has said nothing for longest, and is to be
// closed: who means it sends the request together with the end of the handshake, so nobody who is slow can keep
// others out. nil: the requests of all are being decided.
func (v *applicants) enter(conn *quic.Conn) (entered, ousted *applicant) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.all) >= maxApplicants {
		for _, o := range v.all {
			if !o.serving && (ousted == nil || o.since.Before(ousted.since)) {
				ousted = o
			}
		}
		if ousted == nil {
			return nil, nil
		}
		v.remove(ousted)
	}
	entered = &applicant{conn: conn, since: time.Now()}
	v.all = append(v.all, entered)
	return entered, ousted
}

func (v *applicants) leave(o *applicant) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.remove(o)
}

// remove is leave. v.mu is held.
func (v *applicants) remove(o *applicant) {
	v.all = slices.DeleteFunc(v.all, func(x *applicant) bool { return x == o })
}

// serving notes whether a applicant's request is being decided.
func (v *applicants) serving(o *applicant, serving bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	o.since, o.serving = time.Now(), serving
}

// visit serves a connection of one who wants to join, until it ends.
func (m *Mesh) visit(conn *quic.Conn) {
	ctx, cancel := context.WithTimeout(m.ctx, visitFor)
	defer cancel()
	v, ousted := m.applicants.enter(conn)
	if ousted != nil {
		_ = ousted.conn.CloseWithError(closeBusy, "others want to join") // closed already, otherwise
	}
	if v == nil {
		_ = conn.CloseWithError(closeBusy, "too many want to join at a time")
		return
	}
	defer m.applicants.leave(v)
	if err := m.serveApplicant(ctx, v); err != nil {
		m.log.Debug("a connection for joining came to nothing", "addr", conn.RemoteAddr().String(), "error", err)
		_ = conn.CloseWithError(closeRefused, "no request to join")
		return
	}
	// The other side closes the connection when it has read the answer.
	select {
	case <-conn.Context().Done():
	case <-ctx.Done():
		_ = conn.CloseWithError(closeBye, "answered long ago")
	}
}

// serveApplicant reads the one request and answers it.
func (m *Mesh) serveApplicant(ctx context.Context, v *applicant) error {
	s, err := v.conn.AcceptStream(ctx)
	if err != nil {
		return err
	}
	defer s.CancelRead(streamGivenUp)
	end, _ := ctx.Deadline()
	if err := s.SetDeadline(end); err != nil {
		return err
	}
	k, data, err := readFrame(s)
	if err != nil {
		return err
	}
	if k != kindJoin || len(data) > certs.MaxJoinRequest {
		return fmt.Errorf("%w: kind %d with %d bytes instead of a request to join", errFrame, k, len(data))
	}
	var r joinRequest
	if err := decode(data, &r); err != nil {
		return err
	}
	m.applicants.serving(v, true)
	defer m.applicants.serving(v, false)
	reply, peer, err := m.enroll(&r, v.conn)
	if err != nil {
		return m.turnDown(s, v.conn, err)
	}
	m.log.Info("a new node has been admitted to the farm", "peer", peer.Node, "addr", v.conn.RemoteAddr().String(),
		"serial", peer.Serial, "expires", peer.Expires)
	if err := writeFrame(s, kindAdmitted, admitted{Size: int64(len(reply))}); err != nil {
		return err
	}
	if _, err := s.Write(reply); err != nil {
		return err
	}
	if err := writeFrame(s, kindMembers, m.members(peer.Node)); err != nil {
		return err
	}
	return s.Close()
}

// enroll has the issuer decide about a request. A new node whose clock is wrong is told so before its invitation is
// used up.
func (m *Mesh) enroll(r *joinRequest, conn *quic.Conn) ([]byte, certs.Peer, error) {
	now := time.Now()
	if off := now.Sub(time.Unix(0, r.Clock)); off.Abs() > joinSkew {
		return nil, certs.Peer{}, &certs.JoinRefusal{Reason: fmt.Sprintf("it is %s here, and %s by the new node's clock; set the clock that is wrong, and join again",
			clockText(now), clockText(time.Unix(0, r.Clock)))}
	}
	if err := m.config.Issuer.Belongs(m.Certs()); err != nil {
		return nil, certs.Peer{}, err
	}
	return m.config.Issuer.Admit(r.Request, conn.ConnectionState().TLS, now)
}

func clockText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// turnDown says why a node is not admitted. What went wrong here is the operator's matter, and not a stranger's.
func (m *Mesh) turnDown(s *quic.Stream, conn *quic.Conn, err error) error {
	host, _, splitErr := net.SplitHostPort(conn.RemoteAddr().String())
	if splitErr != nil {
		host = conn.RemoteAddr().String()
	}
	var no notAdmitted
	refusal, ok := errors.AsType[*certs.JoinRefusal](err)
	switch {
	case ok:
		no = notAdmitted{Text: refusal.Reason, Again: refusal == certs.ErrTooManyTries}
		if m.alien.first(host + " may not join: " + refusal.Reason) {
			m.log.Warn("a node that wants to join is not admitted", "addr", host, "reason", plain(refusal.Reason))
		}
	default:
		no = notAdmitted{Text: "the issuer cannot issue certificates at the moment; its log says why", Again: true}
		if m.repeats.first("nobody can join: " + err.Error()) {
			m.log.Error("a node that wants to join cannot be admitted", "addr", host, "error", err)
		}
	}
	if err := writeFrame(s, kindNotAdmitted, no); err != nil {
		return err
	}
	return s.Close()
}

// members lists for a new node whom else it can link to, those that are linked first.
func (m *Mesh) members(newcomer string) nodeList {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.SortedFunc(maps.Values(m.nodes), func(a, b *node) int {
		if (a.link != nil) != (b.link != nil) {
			if a.link != nil {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.name, b.name)
	})
	var list nodeList
	size := 0
	for _, n := range all {
		if n.name == newcomer || n.gone() || n.addr == "" {
			continue
		}
		info := nodeInfo{Name: n.name, Addr: m.addrOf(n), Site: n.site, Up: n.link != nil}
		size += len(info.Name) + len(info.Addr) + len(info.Site) + 16 // what CBOR adds
		if len(list.Nodes) == maxLearned || size > maxMembers {
			break
		}
		list.Nodes = append(list.Nodes, info)
	}
	return list
}
