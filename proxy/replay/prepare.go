package replay

import (
	"context"
	"fmt"

	"peerstate/store"
)

// prepare makes a session that is met for the first time, if its answer shows that it existed before the recording began.
func (r *run) prepare(ctx context.Context, x *exchange) error {
	s := &session{}
	r.sessions[x.key] = s
	if x.answer == nil {
		return nil
	}
	lock := int64(-1) // the recorded cookie of the lock that it had
	switch status := x.answer.Status; {
	case status == 423:
		lock = x.answer.cookie
	case status != 200:
		return nil
	case x.op == store.Put || x.op == store.Release || x.op == store.Delete:
		lock = x.request.cookie
		if lock <= 0 && x.op != store.Delete {
			return nil // a new session; or nothing that tells whether there was one
		}
	}
	if err := r.makeSession(ctx, x, s); err != nil {
		return err
	}
	r.result.Prepared++
	if lock <= 0 {
		return nil
	}
	a, err := r.own(ctx, x, "GET", "Exclusive: acquire\r\n", nil)
	if err != nil {
		return err
	}
	cookie, ok := a.Number(cookieNames[0])
	if a.Status != 200 || !ok {
		return fmt.Errorf("lock a session that was locked before the recording began (line %d): the server answers %d", x.answer.line, a.Status)
	}
	s.pair(lock, cookie)
	return nil
}

// makeSession stores the session with what its answer shows of it.
func (r *run) makeSession(ctx context.Context, x *exchange, s *session) error {
	headers := ""
	if timeout, ok := x.answer.Number("Timeout"); ok {
		headers = fmt.Sprintf("Timeout: %d\r\n", timeout)
	}
	if _, init := x.answer.Get("ActionFlags"); init {
		headers += "ExtraFlags: 1\r\n"
	}
	body := x.answer.body
	if body == nil {
		body = filling(x.answer.length)
	}
	s.guessed = x.answer.Status != 200 || x.op != store.Get && x.op != store.Acquire
	headers += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	a, err := r.own(ctx, x, "PUT", headers, body)
	if err == nil && a.Status != 200 {
		err = fmt.Errorf("make a session that existed before the recording began (line %d): the server answers %d", x.answer.line, a.Status)
	}
	return err
}

// filling stands for contents that were not recorded.
func filling(n int64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = "peerstate replay "[i%17]
	}
	return b
}
