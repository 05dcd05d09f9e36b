package transport

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
	"peerstate/store"
)

// rawExchange is the least that a fetch over QUIC can cost: one stream, a question of a key's size, an
// answer of a session's, mutual TLS, nothing else.
func rawExchange(t testing.TB, snap *certs.Snapshot, size int) func() {
	t.Helper()
	listener, err := quic.ListenAddr("127.0.0.1:0", snap.ListenTLS("raw"), quicConfig())
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, size)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept(context.Background())
		if err != nil {
			return
		}
		for {
			s, err := conn.AcceptStream(context.Background())
			if err != nil {
				return
			}
			go func() {
				if _, err := io.ReadAll(s); err != nil {
					return
				}
				if _, err := s.Write(body); err == nil {
					_ = s.Close() // the benchmark fails if it did not arrive
				}
			}()
		}
	}()
	conn, err := quic.DialAddr(context.Background(), listener.Addr().String(), snap.DialTLS("raw"), quicConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.CloseWithError(0, ""); err != nil {
			t.Error(err)
		}
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	question := make([]byte, 100)
	return func() {
		s, err := conn.OpenStreamSync(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(question); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s); err != nil || len(got) != size {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
}

// p50 is the median time of n calls.
func p50(n int, f func(i int)) time.Duration {
	times := make([]time.Duration, n)
	for i := range times {
		begun := time.Now()
		f(i)
		times[i] = time.Since(begun)
	}
	slices.Sort(times)
	return times[n/2]
}

// pairs measures two things in turn and gives the median of each, in microseconds, and of the ratios.
func pairs(n int, a, b func() time.Duration) (ma, mb, ratio float64) {
	var as, bs, ratios []float64
	for range n {
		x, y := float64(a().Nanoseconds())/1000, float64(b().Nanoseconds())/1000
		as, bs, ratios = append(as, x), append(bs, y), append(ratios, x/y)
	}
	median := func(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }
	return median(as), median(bs), median(ratios)
}

// How many calls make one measurement, and how many pairs of them are taken.
const (
	benchCalls = 500
	benchPairs = 11
	benchSize  = 2048
)

// BenchmarkFetchAgainstRawQUIC fetches sessions of 2 KB from a peer, and compares the median with that
// of a raw exchange of the same size.
func BenchmarkFetchAgainstRawQUIC(b *testing.B) {
	for b.Loop() {
		nodes := realFarm(b, "a", "b")
		raw := rawExchange(b, nodes[0].mesh.config.Certs, benchSize)
		body := make([]byte, benchSize)
		round := 0
		fetch := func() time.Duration {
			round++
			for i := range benchCalls {
				nodes[0].do(&store.Request{Op: store.Put, Key: fmt.Appendf(nil, "app(hash)/%d-%d", round, i), Timeout: 20, Body: body})
			}
			return p50(benchCalls, func(i int) {
				a := nodes[1].do(&store.Request{Op: store.Get, Key: fmt.Appendf(nil, "app(hash)/%d-%d", round, i), Cookie: store.NoCookie})
				if a.Status != store.OK || len(a.Body) != benchSize {
					b.Fatalf("status %d, %d bytes", a.Status, len(a.Body))
				}
			})
		}
		fetched, least, ratio := pairs(benchPairs, fetch, func() time.Duration {
			return p50(benchCalls, func(int) { raw() })
		})
		b.ReportMetric(fetched, "fetch-p50-µs")
		b.ReportMetric(least, "raw-p50-µs")
		b.ReportMetric(ratio, "ratio")
	}
}

// BenchmarkMiss asks for sessions that exist nowhere, and compares with a raw exchange without contents:
// one round trip.
func BenchmarkMiss(b *testing.B) {
	for b.Loop() {
		nodes := realFarm(b, "a", "b")
		raw := rawExchange(b, nodes[0].mesh.config.Certs, 1)
		round := 0
		miss, least, ratio := pairs(benchPairs, func() time.Duration {
			round++
			return p50(benchCalls, func(i int) {
				a := nodes[1].do(&store.Request{Op: store.Get, Key: fmt.Appendf(nil, "app(hash)/%d-%d", round, i), Cookie: store.NoCookie})
				if a.Status != store.NotFound {
					b.Fatalf("status %d", a.Status)
				}
			})
		}, func() time.Duration { return p50(benchCalls, func(int) { raw() }) })
		b.ReportMetric(miss, "miss-p50-µs")
		b.ReportMetric(least, "raw-p50-µs")
		b.ReportMetric(ratio, "ratio")
	}
}

// BenchmarkNewSession stores new sessions with a peer linked, and compares with a stand-alone store.
func BenchmarkNewSession(b *testing.B) {
	for b.Loop() {
		nodes := realFarm(b, "a", "b")
		alone := store.New(store.Options{Node: "alone"})
		defer alone.Close()
		body := make([]byte, benchSize)
		round := 0
		create := func(st *store.Store) func() time.Duration {
			return func() time.Duration {
				round++
				const many = 20_000
				begun := time.Now()
				for i := range many {
					r := store.Request{Op: store.Put, Key: fmt.Appendf(nil, "app(hash)/%d-%d", round, i), Timeout: 20, Body: body}
					if _, ok := st.Try(&r); !ok {
						b.Fatal("it was not stored at once")
					}
				}
				return time.Since(begun) / many
			}
		}
		farm, single, ratio := pairs(benchPairs, create(nodes[0].store), create(alone))
		b.ReportMetric(farm*1000, "farm-ns")
		b.ReportMetric(single*1000, "alone-ns")
		b.ReportMetric(ratio, "ratio")
	}
}
