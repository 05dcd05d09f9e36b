package transport

import (
	"context"
	"errors"
	"fmt"
	"time"

	"peerstate/store"
)

// forward is a request to change a session, for its holder; a body of Size bytes follows.
type forward struct {
	Op      store.Op      `cbor:"1,keyasint"`
	Key     string        `cbor:"2,keyasint"`
	Cookie  int32         `cbor:"3,keyasint"`
	Timeout int32         `cbor:"4,keyasint,omitempty"`
	Flags   int32         `cbor:"5,keyasint,omitempty"`
	Size    int64         `cbor:"6,keyasint,omitempty"`
	Within  time.Duration `cbor:"7,keyasint"`
}

// answer is what came of it. NotHere: the node does not hold the session, and nothing was carried out.
type answer struct {
	NotHere bool          `cbor:"1,keyasint,omitempty"`
	Status  store.Status  `cbor:"2,keyasint"`
	Init    bool          `cbor:"3,keyasint,omitempty"`
	Cookie  int32         `cbor:"4,keyasint,omitempty"`
	LockAge time.Duration `cbor:"5,keyasint,omitempty"`
}

// Forward implements store.Farm: it passes a write on to the node that holds the session.
func (m *Mesh) Forward(ctx context.Context, holder string, r *store.Request) (store.Answer, error) {
	l := m.linkTo(holder)
	if l == nil {
		return store.Answer{}, store.ErrNotHere // nothing was sent; ask again
	}
	s, err := l.open(ctx)
	if err != nil {
		return store.Answer{}, store.ErrNotHere // nor here
	}
	a, err := m.forward(ctx, l, s, r)
	if err != nil {
		s.end()
		return store.Answer{}, err
	}
	ended := m.start(func() {
		defer s.end()
		m.finish(l, s)
	})
	if !ended {
		s.end() // the mesh has been closed
	}
	if a.NotHere {
		return store.Answer{}, store.ErrNotHere
	}
	return store.Answer{Status: a.Status, Init: a.Init, Cookie: a.Cookie, LockAge: max(a.LockAge, 0)}, nil
}

// forward sends a request and reads its answer. The holder's time begins when it has all of the body, which
// may take as long as bytes flow.
func (m *Mesh) forward(ctx context.Context, l *link, s *stream, r *store.Request) (a answer, err error) {
	begun, left := time.Now(), m.config.FetchTimeout
	if end, ok := ctx.Deadline(); ok {
		left = max(end.Sub(begun), 0)
	}
	head, err := appendFrame(make([]byte, 0, 512), kindForward, forward{Op: r.Op, Key: string(r.Key), Cookie: r.Cookie,
		Timeout: r.Timeout, Flags: r.Flags, Size: int64(len(r.Body)), Within: left * 4 / 5})
	if err != nil {
		return a, err
	}
	if err := writeSlowly(s, head, r.Body); err != nil {
		return a, store.ErrNotHere // the end of it was never sent: nothing is carried out
	}
	sent := time.Now()
	if err = s.SetReadDeadline(sent.Add(left + underWay(len(r.Body)))); err == nil {
		err = expect(s, kindAnswer, &a)
	}
	if err == nil {
		err = a.check()
	}
	switch {
	case err == nil:
		m.answered(l)
		return a, nil
	case noPath(err):
		return a, store.ErrNotHere // nobody has read it
	case errors.Is(err, errFrame):
		l.misbehaved(err)
	case timedOut(err) && left >= m.config.FetchTimeout/2:
		m.unanswered(l, begun)
	}
	return a, fmt.Errorf("waiting for the answer of %s: %w", l.node.name, err)
}

// check finds answers that no holder gives.
func (a *answer) check() error {
	if a.Status > store.Unknown || a.Status == store.NotFound || a.Cookie < 0 || a.Status == store.Locked && a.Cookie == 0 {
		return fmt.Errorf("%w: an answer of status %d, cookie %d", errFrame, a.Status, a.Cookie)
	}
	return nil
}
