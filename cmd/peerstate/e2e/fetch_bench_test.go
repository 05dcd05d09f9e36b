package e2e

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
)

const (
	sessionSize = 2048
	calls       = 500 // of which the median makes one measurement
	rounds      = 11  // pairs of measurements
)

// BenchmarkFetchFromClientToClient measures what a web server waits for a session of 2 KB that is on
// another node (two processes, TCP, QUIC), and compares it with a raw QUIC exchange of the same size in
// the same run.
func BenchmarkFetchFromClientToClient(b *testing.B) {
	for b.Loop() {
		f := newFarm(b)
		london, tokyo := f.node("london"), f.node("tokyo")
		london.start(tokyo)
		tokyo.start(london)
		f.linked(london, tokyo)
		there, here := london.connect(), tokyo.connect()
		raw := f.rawExchange()
		body := strings.Repeat("x", sessionSize)
		var fetched, least, ratios []float64
		for round := range rounds {
			id := func(i int) string { return fmt.Sprintf("%d-%d", round, i) }
			for i := range calls {
				if a, err := there.request("PUT", id(i), body); err != nil || a.status != 200 {
					b.Fatalf("put: %d, %v", a.status, err)
				}
			}
			x := p50(func(i int) {
				if a, err := here.request("GET", id(i), ""); err != nil || a.status != 200 || len(a.body) != sessionSize {
					b.Fatalf("get: %d, %v", a.status, err)
				}
			})
			y := p50(func(int) { raw() })
			fetched, least, ratios = append(fetched, x), append(least, y), append(ratios, x/y)
		}
		b.ReportMetric(median(fetched), "fetch-p50-µs")
		b.ReportMetric(median(least), "raw-p50-µs")
		b.ReportMetric(median(ratios), "ratio")
	}
}

func p50(f func(i int)) float64 {
	times := make([]float64, calls)
	for i := range times {
		begun := time.Now()
		f(i)
		times[i] = float64(time.Since(begun).Nanoseconds()) / 1000
	}
	return median(times)
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// rawExchange gives a question of 100 bytes and an answer of a session's size on one QUIC stream under
// mutual TLS, and nothing else: the least that a fetch can cost.
func (f *farm) rawExchange() func() {
	f.t.Helper()
	must := func(err error) {
		if err != nil {
			f.t.Helper()
			f.t.Fatal(err)
		}
	}
	snap, err := certs.Load(filepath.Join(f.dir, "london"), time.Now())
	must(err)
	config := &quic.Config{MaxIncomingStreams: 4096}
	listener, err := quic.ListenAddr("127.0.0.1:0", snap.ListenTLS("raw"), config)
	must(err)
	body := make([]byte, sessionSize)
	go func() {
		conn, err := listener.Accept(context.Background())
		for err == nil {
			var s *quic.Stream
			if s, err = conn.AcceptStream(context.Background()); err != nil {
				return
			}
			go func() {
				if _, err := io.ReadAll(s); err != nil {
					return
				}
				if _, err := s.Write(body); err == nil {
					_ = s.Close() // the benchmark fails if it does not arrive
				}
			}()
		}
	}()
	conn, err := quic.DialAddr(context.Background(), listener.Addr().String(), snap.DialTLS("raw"), config)
	must(err)
	f.t.Cleanup(func() {
		must(conn.CloseWithError(0, ""))
		must(listener.Close())
	})
	question := make([]byte, 100)
	return func() {
		s, err := conn.OpenStreamSync(context.Background())
		must(err)
		_, err = s.Write(question)
		must(err)
		must(s.Close())
		got, err := io.ReadAll(s)
		must(err)
		if len(got) != sessionSize {
			f.t.Fatalf("%d bytes", len(got))
		}
	}
}
