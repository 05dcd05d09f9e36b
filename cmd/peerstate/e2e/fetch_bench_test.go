package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
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
		f.startBoth(london, tokyo)
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

// rawListener names the environment variable that has the test binary be the other end of rawExchange: the
// directory of its certificates.
const rawListener = "PEERSTATE_E2E_RAW_LISTENER"

// rawExchange gives a question of 100 bytes and an answer of a session's size on one QUIC stream under
// mutual TLS between two processes, and nothing else: the least that a fetch can cost.
func (f *farm) rawExchange() func() {
	f.t.Helper()
	must := func(err error) {
		if err != nil {
			f.t.Helper()
			f.t.Fatal(err)
		}
	}
	dir := filepath.Join(f.dir, "london")
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), rawListener+"="+dir)
	other.Stderr = os.Stderr
	out, err := other.StdoutPipe()
	must(err)
	must(other.Start())
	addr, err := bufio.NewReader(out).ReadString('\n')
	must(err)
	snap, err := certs.Load(dir, time.Now())
	must(err)
	conn, err := quic.DialAddr(context.Background(), strings.TrimSpace(addr), snap.DialTLS("raw"), nil)
	must(err)
	f.t.Cleanup(func() {
		must(conn.CloseWithError(0, "")) // which ends the other process
		must(other.Wait())
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

// listenRaw is the other process: it answers one connection until that ends.
func listenRaw(dir string) error {
	snap, err := certs.Load(dir, time.Now())
	if err != nil {
		return err
	}
	listener, err := quic.ListenAddr("127.0.0.1:0", snap.ListenTLS("raw"), &quic.Config{MaxIncomingStreams: 4096})
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	conn, err := listener.Accept(context.Background())
	if err != nil {
		return err
	}
	body := make([]byte, sessionSize)
	for {
		s, err := conn.AcceptStream(context.Background())
		if err != nil {
			return listener.Close()
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
}
