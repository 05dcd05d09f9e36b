package transport

import (
	"context"
	"errors"
	"fmt"
	"time"

	"peerstate/store"
)

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
	defer s.end()
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(m.config.FetchTimeout)
	}
	if err := s.SetReadDeadline(end); err != nil {
		return store.Answer{}, err
	}
	head, err := appendFrame(make([]byte, 0, 512), kindForward, forward{Op: r.Op, Key: string(r.Key), Cookie: r.Cookie,
		Timeout: r.Timeout, Flags: r.Flags, Size: int64(len(r.Body)), Within: max(time.Until(end)*4/5, 0)})
	if err != nil {
		return store.Answer{}, err
	}
	if err := writeSlowly(s, head, r.Body); err != nil {
		return store.Answer{}, fmt.Errorf("passing a request to %s: %w", holder, err)
	}
	var a answer
	if err := expect(s, kindAnswer, &a); err != nil {
		if errors.Is(err, errFrame) {
			l.misbehaved(err)
		}
		if timedOut(err) {
			m.unanswered(l)
		}
		return store.Answer{}, fmt.Errorf("waiting for the answer of %s: %w", holder, err)
	}
	m.answered(l)
	m.finish(l, s)
	if a.NotHere {
		return store.Answer{}, store.ErrNotHere
	}
	if a.Status > store.Unknown || a.Status == store.NotFound || a.Cookie < 0 {
		l.misbehaved(fmt.Errorf("%w: an answer of status %d, cookie %d", errFrame, a.Status, a.Cookie))
		return store.Answer{}, errFrame
	}
	return store.Answer{Status: a.Status, Init: a.Init, Cookie: a.Cookie, LockAge: max(a.LockAge, 0)}, nil
}
