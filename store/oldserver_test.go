package store

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// oldServer is a state server that is to be replaced. It does what Microsoft's does.
type oldServer struct {
	*Store

	mu   sync.Mutex
	fate func(op Op) fate // nil: all goes well
	did  map[Op]int

	counting *Store // the one that takes sessions over
}

// fate is what becomes of a request.
type fate struct {
	takes    time.Duration // before it is carried out
	lost     bool          // it never arrives
	silent   bool          // its answer does not
	full     bool          // there is no memory for its answer's body
	outsized bool          // that is larger than is taken
	counts   bool          // its answer's body is counted
}

func newOld(t *testing.T) *oldServer {
	return &oldServer{Store: alone(t), did: map[Op]int{}}
}

func (o *oldServer) Do(ctx context.Context, r *Request) (Answer, error) {
	o.mu.Lock()
	var f fate
	if o.fate != nil {
		f = o.fate(r.Op)
	}
	o.did[r.Op]++
	o.mu.Unlock()
	if f.takes > 0 {
		wait := time.NewTimer(f.takes)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
			f.silent = true // but it is carried out
		}
	}
	if f.lost {
		return Answer{}, errLost
	}
	a := o.ask(r)
	if f.silent {
		return Answer{}, errLost
	}
	if (f.full || f.outsized) && a.Body != nil {
		a.Status, a.Body, r.Counted = Full, nil, int64(len(a.Body))
		if f.outsized {
			return a, ErrOutsized
		}
	}
	if f.counts && a.Body != nil {
		r.Counted = int64(len(a.Body))
		if !o.counting.Reserve(ctx, r.Counted) {
			return Answer{}, errLost
		}
	}
	return a, nil
}

// ask is what a page that runs against the old server does.
func (o *oldServer) ask(r *Request) Answer {
	if a, ok := o.Try(r); ok {
		return a
	}
	return o.Store.Do(context.Background(), r)
}

func (o *oldServer) on(f func(op Op) fate) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fate = f
}

func (o *oldServer) count(op Op) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.did[op]
}

// has tells whether a session is there.
func (o *oldServer) has(key string) bool { return req(o.Store, Head, key, NoCookie, "").Status == OK }

// migrating runs f with an old server that has sessions "a" to "d" with 30 minutes, and nodes that take them over.
func migrating(t *testing.T, names []string, f func(t *testing.T, old *oldServer, net *network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		old := newOld(t)
		for _, key := range []string{"a", "b", "c", "d"} {
			old.ask(&Request{Op: Put, Key: []byte(key), Cookie: NoCookie, Timeout: 30, Body: []byte("old " + key)})
		}
		net := waitingFarm(t, 0, names...)
		for _, n := range net.nodes {
			n.JoinUpstream(old)
		}
		f(t, old, net)
	})
}

var sizes = map[string][]string{"in a farm": {"n1", "n2", "n3"}, "alone in a farm": {"n1"}}
