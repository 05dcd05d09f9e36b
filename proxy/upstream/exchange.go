package upstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"peerstate/proxy/wire"
	"peerstate/store"
)

// Do has the server carry out a request, and gives its answer. After an error, it may or may not have done so. Full: it has, and there is
// no memory for the body of its answer, or, with store.ErrOutsized, that is too large.
func (c *Client) Do(ctx context.Context, r *store.Request) (store.Answer, error) {
	a, err := c.do(ctx, r)
	c.counts.add(r.Op, a.Status, err)
	return a, err
}

func (c *Client) do(ctx context.Context, r *store.Request) (store.Answer, error) {
	if err := c.health.refuses(); err != nil {
		return store.Answer{}, err
	}
	conn, err := c.take(ctx)
	if err != nil {
		c.health.unreachable(ctx, err)
		return store.Answer{}, fmt.Errorf("connect to the old state server %s: %w", c.addr, err)
	}
	got, err := conn.Exchange(ctx, r.Op == store.Head, head(r), r.Body)
	// If ctx has ended just now, what interrupts the connection for it may do so only when the next request is under way.
	c.put(conn, err != nil || ctx.Err() != nil)
	large := errors.Is(err, wire.ErrTooLarge)
	full := large || errors.Is(err, wire.ErrNoRoom)
	var a store.Answer
	if err == nil || full {
		a, err = understand(r.Op, got)
	}
	c.health.answered(ctx, err)
	switch {
	case err == nil && full && a.Status == store.OK:
		a.Status, r.Counted = store.Full, got.Length
		if large {
			return a, store.ErrOutsized
		}
	case err == nil && a.Body != nil:
		r.Counted = got.Counted
	case got != nil && got.Counted != 0:
		c.memory.GiveBack(got.Counted) // a body where there should be none
	}
	if err != nil {
		return store.Answer{}, fmt.Errorf("ask the old state server %s: %w", c.addr, err)
	}
	return a, nil
}

var methods = [store.Ops]string{store.Get: "GET", store.Acquire: "GET", store.Release: "GET",
	store.Put: "PUT", store.Delete: "DELETE", store.Head: "HEAD"}

// head writes a request's head, as the client inside ASP.NET does.
func head(r *store.Request) []byte {
	b := make([]byte, 0, 256+3*len(r.Key))
	b = append(append(b, methods[r.Op]...), ' ')
	b = appendTarget(b, r.Key)
	b = append(b, " HTTP/1.1\r\nHost: localhost\r\n"...)
	number := func(name string, n int64) {
		b = append(strconv.AppendInt(append(b, name...), n, 10), '\r', '\n')
	}
	switch r.Op {
	case store.Acquire:
		b = append(b, "Exclusive: acquire\r\n"...)
	case store.Release:
		b = append(b, "Exclusive: release\r\n"...)
	case store.Put:
		number("Timeout:", int64(r.Timeout))
		number("Content-Length:", int64(len(r.Body)))
		number("ExtraFlags:", int64(r.Flags))
	}
	switch {
	case r.Cookie >= 0:
		number("LockCookie:", int64(r.Cookie))
	case r.Cookie == store.BadCookie:
		b = append(b, "LockCookie:-\r\n"...) // so that it is refused there as it would be here
	}
	return append(b, "\r\n"...)
}

// appendTarget writes a key as ASP.NET does: all of it percent-encoded, with the slash in front that the key has not.
func appendTarget(b, key []byte) []byte {
	const digits = "0123456789abcdef"
	b = append(b, "%2f"...)
	for _, c := range key {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9',
			c == '(', c == ')', c == '-', c == '_', c == '.', c == '!', c == '*':
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

// understand makes of an answer what the store takes. What does not fit the protocol is an error.
func understand(op store.Op, got *wire.Answer) (a store.Answer, err error) {
	number := func(name string, most int64) int64 {
		n, ok := got.Number(name)
		if err == nil && (!ok || n > most) {
			err = fmt.Errorf("it answers %d to %s without a right %s", got.Status, op, name)
		}
		return n
	}
	if flags, ok := got.Number("ActionFlags"); ok {
		a.Init = flags&int64(store.FlagUninitialized) != 0
	}
	switch got.Status {
	case 200:
		switch op {
		case store.Acquire:
			a.Cookie = int32(number("LockCookie", 1<<31-1))
			fallthrough
		case store.Get:
			a.Timeout = int32(number("Timeout", store.MaxTimeout))
			a.Body = got.Body
		}
	case 400:
		a.Status = store.BadRequest
	case 404:
		a.Status = store.NotFound
	case 423:
		a.Status = store.Locked
		a.Cookie = int32(number("LockCookie", 1<<31-1))
		a.LockAge = time.Duration(number("LockAge", 1<<31-1)) * time.Second
	default:
		err = fmt.Errorf("it answers %d to %s", got.Status, op)
	}
	return a, err
}
