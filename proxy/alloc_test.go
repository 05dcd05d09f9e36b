package proxy

import (
	"io"
	"net"
	"strconv"
	"testing"

	"peerstate/store"
)

// costs are the requests of a page, and how many allocations each may cost.
var costs = []struct {
	name, request string
	status        store.Status
	allocs        float64
}{
	{"acquire", acquire(), store.OK, 0}, // the first; those after it find the session locked
	{"locked", acquire(), store.Locked, 0},
	{"put", put(kilobytes2, "Timeout:20", "ExtraFlags:0", "LockCookie:2"), store.OK, 1}, // the body
	{"release", get("Exclusive: release", "LockCookie: 0"), store.OK, 0},
	{"get", get(), store.OK, 0},
	{"head", head("HEAD") + "\r\n", store.OK, 0},
	{"missing", "GET /nothing HTTP/1.1\r\n\r\n", store.NotFound, 0},
}

var kilobytes2 = string(make([]byte, 2048))

func TestARequestAllocatesNothingButAPutsBody(t *testing.T) {
	st := newStore(t)
	s := New(Config{Store: st})
	mustTry(t, st, store.Request{Op: store.Put, Timeout: 20, Body: []byte(kilobytes2)})
	for _, cost := range costs {
		c := newConn(s, &script{in: []byte(cost.request), repeat: true, forget: true})
		if !c.exchange() { // sets deadlines and sizes buffers
			t.Fatalf("%s: the connection has ended", cost.name)
		}
		got := testing.AllocsPerRun(200, func() { c.exchange() })
		if got != cost.allocs {
			t.Errorf("%s: %v allocations, want %v", cost.name, got, cost.allocs)
		}
	}
}

// TestACycleOverASocketAllocatesNothingButTheBody counts what both sides of a connection allocate,
// the client's being nothing.
func TestACycleOverASocketAllocatesNothingButTheBody(t *testing.T) {
	_, addr := serve(t, Config{}, nil)
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer closeQuietly(nc)
	buf := make([]byte, 8<<10)
	exchange := func(request []byte, least int) {
		if _, err := nc.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAtLeast(nc, buf, least); err != nil || string(buf[:12]) != "HTTP/1.1 200" {
			t.Fatalf("answered %q, %v", buf[:100], err)
		}
	}
	lock, write := []byte(acquire()), []byte(head("PUT", "Content-Length: 2048")+"LockCookie: ")
	exchange([]byte(put(kilobytes2)), 50)
	var request []byte
	cookie := int64(1)
	got := testing.AllocsPerRun(200, func() {
		exchange(lock, 2048)
		cookie++
		request = strconv.AppendInt(append(request[:0], write...), cookie, 10)
		request = append(append(request, "\r\n\r\n"...), kilobytes2...)
		exchange(request, 50)
	})
	if got != 1 {
		t.Errorf("%v allocations, want 1", got)
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, cost := range costs {
		b.Run(cost.name, func(b *testing.B) {
			b.ReportAllocs()
			st := newStore(b)
			s := New(Config{Store: st})
			mustTry(b, st, store.Request{Op: store.Put, Timeout: 20, Body: []byte(kilobytes2)})
			c := newConn(s, &script{in: []byte(cost.request), repeat: true, forget: true})
			for b.Loop() {
				c.exchange()
			}
		})
	}
}
