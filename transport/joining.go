package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
)

const (
	// joinFor bounds how long a node tries to join.
	joinFor = 20 * time.Second
	// joinStep is how much later the next of several addresses is tried, beside those that have not answered.
	joinStep = 300 * time.Millisecond
	// joinCall bounds how long one address is tried, which may be a name that stands for several.
	joinCall = 7 * time.Second
)

// Join makes this machine a node of the farm: it asks the issuer that the invitation names for a certificate, and
// writes the node's files to dir, which is made if need be and must not have them. What the farm's other nodes are
// is written there, too, so that a mesh links to them without any address in its settings.
//
// Nothing is sent to anybody but the issuer, whom the invitation tells how to know. It is tried for at most 20 s, or
// until ctx ends; whatever fails before an answer has come leaves the invitation as it was, or is made good by the
// next try. report, which may be nil, is told in a line what is being done. An error says in plain words what is in
// the way; it is or wraps a [*certs.JoinRefusal] if the issuer refuses, a [*certs.Refusal] if somebody else
// answers, [ErrNoAnswer] if nobody does, and a [*certs.FileError] if dir is the matter.
func Join(ctx context.Context, token *certs.Token, dir string, report func(string)) (peer certs.Peer, err error) {
	socket, err := net.ListenUDP("udp", nil) // both IPv4 and IPv6
	if err != nil {
		return certs.Peer{}, fmt.Errorf("opening a UDP socket: %w", err)
	}
	t := &quic.Transport{Conn: socket}
	defer func() { err = errors.Join(err, t.Close(), socket.Close()) }()
	return joinOver(ctx, t, token, dir, report)
}

// newcomer is a machine that joins.
type newcomer struct {
	token  *certs.Token
	dir    string
	join   *certs.Join
	quic   *quic.Transport
	report func(string)
}

// welcomed is what the issuer has answered.
type welcomed struct {
	addr    string // one of the token's
	reply   []byte
	members nodeList
}

// againError is one that may be over at the next try.
type againError struct{ error }

func (e *againError) Unwrap() error { return e.error }

func joinOver(ctx context.Context, t *quic.Transport, token *certs.Token, dir string, report func(string)) (certs.Peer, error) {
	j, err := certs.NewJoin(token, dir)
	if err != nil {
		return certs.Peer{}, err
	}
	if report == nil {
		report = func(string) {}
	}
	n := &newcomer{token: token, dir: dir, join: j, quic: t, report: report}
	w, err := n.askUntil(ctx)
	if err != nil {
		return certs.Peer{}, err
	}
	return n.install(w)
}

// askUntil asks until there is an answer that holds, or the time is up.
func (n *newcomer) askUntil(ctx context.Context) (*welcomed, error) {
	n.report(fmt.Sprintf("asking %s, the issuer of the farm %s, at %s", n.token.Issuer, n.token.Farm, strings.Join(n.token.Addrs, ", ")))
	all, cancel := context.WithTimeout(ctx, joinFor)
	defer cancel()
	var last error // that tells something: a try that was cut short does not
	for pause := dialSoon; ; pause = min(pause*2, dialLate) {
		w, err := n.ask(all)
		if err == nil {
			return w, nil
		}
		if last == nil || all.Err() == nil {
			last = err
		}
		if _, again := errors.AsType[*againError](err); !again && all.Err() == nil {
			return nil, err
		}
		t := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-t.C:
			n.report("trying again: " + err.Error())
		case <-all.Done():
			t.Stop()
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("joining was given up (%w); what was in the way: %w", err, last)
			}
			return nil, last
		}
	}
}

// ask is one try.
func (n *newcomer) ask(ctx context.Context) (*welcomed, error) {
	conn, addr, err := n.reach(ctx)
	if err != nil {
		return nil, err
	}
	w, err := n.request(ctx, conn)
	if err == nil {
		w.addr = addr
	}
	cause := context.Cause(conn.Context())
	_ = conn.CloseWithError(closeBye, "thank you") // closed already, otherwise
	busy, ok := errors.AsType[*quic.ApplicationError](cause)
	refusal, refused := errors.AsType[*certs.JoinRefusal](err)
	switch {
	case err == nil:
		return w, nil
	case ok && busy.Remote && busy.ErrorCode == closeBusy:
		return nil, &againError{fmt.Errorf("%s is busy: too many nodes want to join at a time, or pretend to", n.token.Issuer)}
	case refused:
		_, again := errors.AsType[*againError](err)
		if err = fmt.Errorf("%s does not admit this node: %w", n.token.Issuer, refusal); again {
			err = &againError{err}
		}
		return nil, err
	case errors.Is(err, errFrame):
		return nil, fmt.Errorf("the answer of %s cannot be read; see that the same release runs on both machines: %w", n.token.Issuer, err)
	case cause != nil:
		err = cause
	}
	return nil, &againError{fmt.Errorf("no whole answer came from %s at %s: %w", n.token.Issuer, addr, explain(err))}
}

// request asks on a connection with the issuer.
func (n *newcomer) request(ctx context.Context, conn *quic.Conn) (*welcomed, error) {
	ctx, cancel := context.WithTimeout(ctx, visitFor)
	defer cancel()
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { s.CancelRead(streamGivenUp) })()
	end, _ := ctx.Deadline()
	if err := s.SetDeadline(end); err != nil {
		return nil, err
	}
	request, err := n.join.Request(conn.ConnectionState().TLS)
	if err != nil {
		return nil, err
	}
	if err := writeFrame(s, kindJoin, joinRequest{Request: request, Clock: time.Now().UnixNano()}); err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	k, data, err := readFrame(s)
	if err != nil {
		return nil, err
	}
	switch k {
	case kindAdmitted:
	case kindNotAdmitted:
		return nil, turnedDown(data)
	default:
		return nil, fmt.Errorf("%w: kind %d in answer to a request to join", errFrame, k)
	}
	var a admitted
	if err := decode(data, &a); err != nil {
		return nil, err
	}
	if a.Size < 0 || a.Size > certs.MaxJoinReply {
		return nil, fmt.Errorf("%w: a reply of %d bytes", errFrame, a.Size)
	}
	w := &welcomed{}
	if w.reply, err = readBody(s, a.Size, nil); err != nil {
		return nil, err
	}
	return w, expect(s, kindMembers, &w.members)
}

func turnedDown(data []byte) error {
	var no notAdmitted
	if err := decode(data, &no); err != nil {
		return err
	}
	refusal := &certs.JoinRefusal{Reason: plain(no.Text)}
	if no.Again {
		return &againError{refusal}
	}
	return refusal
}

// call is what came of dialling one address.
type call struct {
	addr string
	conn *quic.Conn
	err  error
}

// reach makes a connection with the issuer. Of its addresses the one is used that is first to answer.
func (n *newcomer) reach(ctx context.Context) (*quic.Conn, string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	calls := make(chan call)
	var under sync.WaitGroup
	for i, addr := range n.token.Addrs {
		under.Go(func() {
			conn, err := n.dial(ctx, addr, time.Duration(i)*joinStep)
			calls <- call{addr, conn, err}
		})
	}
	go func() {
		under.Wait()
		close(calls)
	}()
	var first *call
	var failed []call
	for c := range calls {
		switch {
		case c.err != nil:
			failed = append(failed, c)
		case first == nil:
			first = &c
			cancel()
		default:
			_ = c.conn.CloseWithError(closeBye, "reached otherwise") // closed already, otherwise
		}
	}
	if first == nil {
		return nil, "", n.unreached(failed)
	}
	return first.conn, first.addr, nil
}

// dial makes a connection to one address, after some time. The handshake fails unless it is the issuer's.
func (n *newcomer) dial(ctx context.Context, addr string, after time.Duration) (*quic.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, after+joinCall)
	defer cancel()
	t := time.NewTimer(after)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	all, err := resolve(ctx, addr)
	if err != nil {
		return nil, err
	}
	config := quicConfig()
	config.MaxIncomingStreams = -1
	for _, to := range all {
		var conn *quic.Conn
		if conn, err = n.quic.Dial(ctx, to, n.join.TLS(), config); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// errNotInviting: a node answers, and does not speak the protocol (RFC 7301, 3.2) at this moment.
var errNotInviting = errors.New("it admits no new nodes")

const noApplicationProtocol = 120 // TLS alert

// unreached says in plain words why the issuer could not be asked at any of its addresses.
func (n *newcomer) unreached(failed []call) error {
	var silent, texts []string
	again := true
	var kinds []error
	for _, c := range failed {
		err := c.err
		var te *quic.TransportError
		refusal, refused := certs.RefusalOf(err)
		switch {
		case errors.As(err, &te) && te.Remote && te.ErrorCode.IsCryptoError() && uint8(te.ErrorCode) == noApplicationProtocol:
			again, err = false, errNotInviting
			texts = append(texts, fmt.Sprintf("a node answers at %s, and admits no new nodes now: either no invitation is open any more, "+
				"because it was withdrawn or the clocks differ, or that node is not the farm's issuer (PEERSTATE_CA_DIR); "+
				"make another with \"peerstate cert token %s\" on the issuer", c.addr, n.token.Node))
		case refused:
			err = refusal
			texts = append(texts, n.impostor(c.addr, refusal))
		case unanswered(err):
			err = ErrNoAnswer
			silent = append(silent, c.addr)
		default:
			texts = append(texts, fmt.Sprintf("%s cannot be reached: %s", c.addr, plain(err.Error())))
		}
		kinds = append(kinds, err)
	}
	if len(silent) > 0 {
		texts = append(texts, fmt.Sprintf("nothing answers on UDP at %s: see that peerstate runs on %s, that this is its address as seen from here, "+
			"and that no firewall on the way drops UDP; others can be named with \"peerstate cert token %s --addr HOST:PORT\"",
			strings.Join(silent, ", "), n.token.Issuer, n.token.Node))
	}
	var err error = &unreachedError{strings.Join(texts, "; "), kinds}
	// Who is not the issuer does not become it, but a silent one may just be starting.
	if again && (len(silent) > 0 || len(texts) == 0) {
		err = &againError{err}
	}
	return err
}

// impostor says that somebody else answers.
func (n *newcomer) impostor(addr string, r *certs.Refusal) string {
	text := fmt.Sprintf("what answers at %s is not the issuer of the farm %s whose fingerprint the invitation has, so nothing was sent there: %v",
		addr, n.token.Farm, r)
	if r.Reason == certs.Expired || r.Reason == certs.NotYetValid {
		text += "; see that the clocks of both machines are right"
	}
	return text
}

// unreachedError is all of what is in the way to the issuer.
type unreachedError struct {
	text  string
	kinds []error
}

func (e *unreachedError) Error() string   { return e.text }
func (e *unreachedError) Unwrap() []error { return e.kinds }

// install writes the node's files: first whom it will link to, since it is a node as soon as it has a certificate.
func (n *newcomer) install(w *welcomed) (certs.Peer, error) {
	known, err := openKnown(filepath.Join(n.dir, certs.StateDir))
	if err != nil {
		return certs.Peer{}, err
	}
	if err := known.write(n.toKnow(w)); err != nil {
		return certs.Peer{}, n.unused(err)
	}
	peer, err := n.join.Install(w.reply, time.Now())
	if err != nil {
		return certs.Peer{}, n.unused(errors.Join(err, os.Remove(known.path)))
	}
	n.report(fmt.Sprintf("admitted to the farm %s as %s; certificate and key are in %s", peer.Farm, peer.Node, n.dir))
	return peer, nil
}

func (n *newcomer) unused(err error) error {
	return fmt.Errorf("%s has admitted this node, and that could not be taken in: %w; the invitation is used up: make another with \"peerstate cert token %s\"",
		n.token.Issuer, err, n.token.Node)
}

// toKnow lists the farm's nodes for nodes.json.
func (n *newcomer) toKnow(w *welcomed) []knownNode {
	now := time.Now().UTC().Truncate(time.Second)
	all := []knownNode{{Node: n.token.Issuer, Addr: w.addr, State: Connecting, Since: now, Unmet: true, Joined: w.addr}}
	seen := map[string]bool{n.token.Issuer: true, n.token.Node: true}
	for _, info := range w.members.Nodes {
		if seen[info.Name] || certs.ValidName(info.Name) != nil || info.Addr == "" || len(all) > maxLearned {
			continue
		}
		seen[info.Name] = true
		all = append(all, knownNode{Node: info.Name, Site: plain(info.Site), Addr: plain(info.Addr), State: Connecting, Since: now, Unmet: true})
	}
	return all
}
