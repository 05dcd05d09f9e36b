package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"peerstate/proxy/recording"
	"peerstate/proxy/wire"
	"peerstate/store"
)

// answerTime is how long an answer may take: three times as long as ASP.NET waits.
const answerTime = 30 * time.Second

// Config says how to replay.
type Config struct {
	To     string // HOST:PORT of the state server
	Timing bool   // keep the pauses of the recording
	// Progress is told how many requests were sent, after each. It may be nil.
	Progress func(requests int)
}

// run is a replay under way.
type run struct {
	config   Config
	dialer   net.Dialer
	started  time.Time
	sequence *sequence
	sessions map[string]*session
	conns    map[int64]*wire.Conn
	result   Result
}

// Run replays a recording. The result is good up to where an error has ended it: one of the recording, or that the server cannot
// be reached. Another answer than the recorded one is no error.
func Run(ctx context.Context, in *recording.Reader, c Config) (Result, error) {
	r := &run{config: c, dialer: net.Dialer{Timeout: answerTime}, started: time.Now(), sequence: newSequence(in),
		sessions: make(map[string]*session), conns: make(map[int64]*wire.Conn)}
	r.result.Bodies = in.Header.Bodies
	err := r.all(ctx)
	for n := range r.conns {
		r.drop(n)
	}
	r.result.Seconds = time.Since(r.started).Seconds()
	r.result.CutOff = r.sequence.cutOff
	r.result.Strange, r.result.Incomplete = r.sequence.strange, r.sequence.cut
	return r.result, err
}

func (r *run) all(ctx context.Context) error {
	for {
		x, err := r.sequence.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = r.step(ctx, x)
		}
		if err != nil {
			return err
		}
	}
}

// step sends one request and looks at its answer.
func (r *run) step(ctx context.Context, x *exchange) error {
	if x.isEnd() {
		r.drop(x.conn)
		return nil
	}
	if err := r.pause(ctx, x.request.at); err != nil {
		return err
	}
	if r.sessions[x.key] == nil {
		if err := r.prepare(ctx, x); err != nil {
			return err
		}
	}
	s := r.sessions[x.key]
	if err := r.exchange(ctx, x, s); err != nil {
		return err
	}
	r.result.Requests++
	if r.config.Progress != nil {
		r.config.Progress(r.result.Requests)
	}
	return nil
}

// pause waits until it is time, if pauses are to be kept.
func (r *run) pause(ctx context.Context, at float64) error {
	if r.config.Timing {
		select {
		case <-time.After(time.Until(r.started.Add(time.Duration(at * float64(time.Second))))):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

func (r *run) exchange(ctx context.Context, x *exchange, s *session) error {
	head := x.request.Bytes
	if cookie, ok := s.stands(x.request.cookie); ok {
		head = withCookie(head, cookie)
	}
	body := x.request.body
	if body == nil {
		body = filling(x.request.length)
	}
	if x.answer == nil && x.by == recording.Client {
		return r.sendOnly(ctx, x.conn, head, body)
	}
	now, err := r.ask(ctx, x.conn, x.op == store.Head, head, body)
	if errors.Is(err, errNotSent) || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	r.judge(x, now, err, s)
	return nil
}

// judge counts an answer, or that there was none.
func (r *run) judge(x *exchange, now *wire.Answer, err error, s *session) {
	var found []differ
	line := x.request.line
	switch {
	case x.answer == nil && err != nil: // neither has answered
	case x.answer == nil:
		found = []differ{{whatConnection, "closed without an answer", string(now.StartLine())}}
	case err != nil:
		line = x.answer.line
		found = []differ{{whatConnection, string(x.answer.StartLine()), explain(err)}}
	default:
		line = x.answer.line
		found = compare(x, now, s)
		if x.op == store.Put && now.Status == 200 {
			s.guessed = false
		}
	}
	if len(found) == 0 {
		r.result.Same++
		return
	}
	r.result.Different++
	for _, d := range found {
		r.result.add(x.op.String(), d, line)
	}
}

// explain says why there was no answer, without what differs from one time to the next.
func explain(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %v", answerTime)
	case errors.Is(err, wire.ErrStrange), errors.Is(err, wire.ErrTooLarge):
		return err.Error()
	}
	return "closed without an answer"
}

var errNotSent = errors.New("the state server cannot be reached")

// conn gives the connection that stands for a recorded one.
func (r *run) conn(ctx context.Context, number int64) (*wire.Conn, error) {
	if c := r.conns[number]; c != nil {
		return c, nil
	}
	nc, err := r.dialer.DialContext(ctx, "tcp", r.config.To)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; start it, or name another with --to", errNotSent, err)
	}
	r.result.Connections++
	c := wire.NewConn(nc, maxBody, nil)
	r.conns[number] = c
	return c, nil
}

// drop closes a connection. What was to be read was read.
func (r *run) drop(number int64) {
	if c := r.conns[number]; c != nil {
		_ = c.Close() // nothing that could be lost with it
		delete(r.conns, number)
	}
}

// ask sends a request on a connection, and closes that if there is no answer.
func (r *run) ask(ctx context.Context, number int64, noBody bool, request ...[]byte) (*wire.Answer, error) {
	c, err := r.conn(ctx, number)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	a, err := c.Exchange(ctx, noBody, request...)
	if err != nil {
		r.drop(number)
	}
	return a, err
}

// sendOnly sends a request and closes the connection, as the web server did.
func (r *run) sendOnly(ctx context.Context, number int64, request ...[]byte) error {
	c, err := r.conn(ctx, number)
	if err != nil {
		return err
	}
	r.result.NotCompared++
	defer r.drop(number)
	return c.Send(ctx, request...)
}

// own sends a request that is not in the recording, for the session and on the connection of one that is.
func (r *run) own(ctx context.Context, x *exchange, method, headers string, body []byte) (*wire.Answer, error) {
	head := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", method, x.request.Target, headers)
	a, err := r.ask(ctx, x.conn, false, head, body)
	if err != nil {
		return nil, fmt.Errorf("prepare a session (line %d): %w", x.request.line, err)
	}
	return a, nil
}
