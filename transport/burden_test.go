package transport

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/store"
)

func TestASessionThatComesInTricklesHoldsUpNobody(t *testing.T) {
	for what, tt := range map[string]struct {
		every time.Duration
		bytes int
		link  bool // the link is left alone
	}{
		"it stops":       {0, 1, true},
		"it never ends":  {time.Second, 600, true},
		"it comes whole": {100 * time.Millisecond, 100, true},
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				r := f.join("b", u.a)
				size := int64(64 << 20)
				if what == "it comes whole" {
					size = int64(tt.bytes)
				}
				r.serve(func(s *quic.Stream, k kind, data []byte) {
					if k != kindQuestion || !bytes.Contains(data, []byte(keyOf(1))) {
						r.write(s, kindReply, reply{Kind: store.ReplyMissing})
						_ = s.Close() // the link may have ended
						return
					}
					b := found(r, func(p *reply) { p.Record.Size = size })
					for range tt.bytes {
						if _, err := s.Write(append(b, 'x')); err != nil {
							return
						}
						b = nil
						select {
						case <-time.After(tt.every):
						case <-r.conn.Context().Done():
						}
					}
					_, _ = io.Copy(io.Discard, s) // until the node gives it up
				})
				wantTime(t, "the get", took(func() {
					f.wantAnswer("it", u.a.get(keyOf(1)), store.Unknown, "")
				}), u.a.mesh.config.FetchTimeout)
				u.check()
				wantTime(t, "a miss", took(func() { f.wantAnswer("it", u.a.get(keyOf(2)), store.NotFound, "") }), 2*f.delay)
				if p := u.a.peer("b"); p.State != Up {
					t.Errorf("a peer whose bytes arrive is %s", p.State)
				}
				if what == "it comes whole" {
					time.Sleep(10 * time.Second)
					f.wantAnswer("get", u.a.get(keyOf(1)), store.OK, strings.Repeat("x", tt.bytes))
					return
				}
				if what == "it stops" {
					time.Sleep(stall)
					if n := counter(t, u.a.mesh.metrics.handovers, incoming, "broken"); n < 1 {
						t.Error("the transfer was not given up")
					}
					return
				}
				if code := r.ended(time.Minute); code != 0 {
					t.Errorf("closed with code %d", code)
				}
				u.check()
			})
		})
	}
}

// heap is what is in use, garbage excluded.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestWhatIsDeclaredAndNotSentCostsLittleMemory(t *testing.T) {
	inFarmAlone(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		r.answer(frame(kindReply, reply{Kind: store.ReplyMissing}), true)
		before := heap()
		const streams = 1000
		for range streams {
			s := r.open()
			b := frame(kindForward, forward{Op: store.Put, Key: keyOf(1), Timeout: 20, Size: 64 << 20, Within: time.Second})
			if _, err := s.Write(append(b, "0123456789"...)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if n := u.a.mesh.direct("b").streams.Load(); n != streams {
			t.Fatalf("%d streams are open", n)
		}
		// Goroutine, stream and first buffer, on both ends.
		if grown := heap() - before; grown > streams*48<<10 {
			t.Errorf("%d bytes for each declared body", grown/streams)
		}
		u.check()
		time.Sleep(stall)
		if n := u.a.mesh.direct("b").streams.Load(); n != 0 {
			t.Errorf("%d streams are open after the time for them", n)
		}
	})
}

// A stream for backups stays open for as long as the link lives, so a peer may have a few of them only.
func TestThousandsOfStreamsForBackupsCostLittleMemory(t *testing.T) {
	inFarmAlone(t, func(t *testing.T, f *farm) {
		f.backups = 1
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		r.answer(frame(kindReply, reply{Kind: store.ReplyMissing}), true)
		before := heap()
		for i := range 1000 {
			s, err := r.conn.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write(frame(kindKeep, keep{Kind: store.ParcelForget, Key: keyOf(i), Record: &recordHead{Stamp: 1}})); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		if n := u.a.mesh.direct("b").bulk.Load(); n != maxBulk {
			t.Errorf("%d streams for backups are open, want %d", n, maxBulk)
		}
		if grown := heap() - before; grown > 8<<20 {
			t.Errorf("%d MB for a thousand of them", grown>>20)
		}
		u.check()
	})
}

func TestThousandsOfHalfOpenStreamsHoldUpNobody(t *testing.T) {
	inFarmAlone(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		r.answer(frame(kindReply, reply{Kind: store.ReplyMissing}), true)
		before := heap()
		opened := 0
		for ; opened < 5000; opened++ {
			s, err := r.conn.OpenStream()
			if err != nil {
				break // the limit
			}
			// A length, and a third of the header.
			if _, err := s.Write(append(rawFrame(kindQuestion, make([]byte, maxHeader))[:8], 0)); err != nil {
				t.Fatal(err)
			}
		}
		if opened < 4000 || opened > 4096 {
			t.Errorf("%d streams could be opened", opened)
		}
		time.Sleep(time.Second)
		if grown := heap() - before; grown > int64(opened)*48<<10 {
			t.Errorf("%d bytes for each stream", grown/int64(opened))
		}
		u.check()
		time.Sleep(stall)
		if n := u.a.mesh.direct("b").streams.Load(); n != 0 {
			t.Errorf("%d streams are open after the time for them", n)
		}
		u.check()
	})
}

func TestAPeerThatGivesNoCreditForAnswersHoldsNothing(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		u.a.put(keyOf(1), strings.Repeat("x", 100_000), 0)
		snap := f.issue("b", time.Hour)
		narrow := quicConfig()
		narrow.InitialStreamReceiveWindow, narrow.MaxStreamReceiveWindow = 512, 512
		conn, err := f.socket("b").Dial(t.Context(), u.a.addr, snap.DialTLS(alpn), narrow)
		if err != nil {
			t.Fatal(err)
		}
		r := &raw{t: t, conn: conn, instance: NewInstance()}
		r.control = r.open()
		r.write(r.control, kindHello, hello{Min: 1, Max: 1, Instance: r.instance})
		var w welcome
		if err := expect(r.control, kindWelcome, &w); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, r.control) }()
		s := r.open()
		r.write(s, kindQuestion, question{Want: store.Move, Key: keyOf(1), Within: time.Second})
		for range 100 {
			r.write(r.open(), kindSettle, settle{Holder: "b", Entries: []settleEntry{{Key: keyOf(2)}}})
		}
		time.Sleep(stall + time.Second)
		f.wantAnswer("get of what it did not read", u.a.get(keyOf(1)), store.OK, strings.Repeat("x", 100_000))
		time.Sleep(stall)
		if l := u.a.mesh.direct("b"); l != nil && l.streams.Load() != 0 {
			t.Errorf("%d streams are open after the time for them", l.streams.Load())
		}
		u.check()
	})
}

func TestAFloodOfPingsIsAnsweredOrEndedAndHarmsNobody(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		b := bytes.Repeat(frame(kindPing, ping{N: 1}), 1000)
		for range 100 { // and not one pong is read
			if err := r.control.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := r.control.Write(b); err != nil {
				break
			}
		}
		u.check()
		time.Sleep(3 * time.Second)
		u.check()
	})
}
