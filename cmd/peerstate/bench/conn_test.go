package bench

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// deaf notes its deadline, and takes no request.
type deaf struct {
	net.Conn
	deadline time.Time
}

var errDeaf = errors.New("deaf")

func (d *deaf) SetDeadline(t time.Time) error        { d.deadline = t; return nil }
func (d *deaf) Write([]byte) (int, error)            { return 0, errDeaf }
func (d *deaf) left(now time.Time) (t time.Duration) { return d.deadline.Sub(now) }

func TestARequestAfterTheEndOfTheRunIsNotWaitedForLong(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	now, nc := time.Now(), new(deaf)
	c := &conn{nc: nc}
	if _, err := c.exchange(ctx, nil, now); !errors.Is(err, errDeaf) || nc.left(now) != answerTimeout {
		t.Errorf("during the run %v are left, %v", nc.left(now), err)
	}
	end()
	if _, err := c.exchange(ctx, nil, now); !errors.Is(err, errDeaf) || nc.left(now) != stopTimeout {
		t.Errorf("after its end %v are left, %v", nc.left(now), err)
	}
}
