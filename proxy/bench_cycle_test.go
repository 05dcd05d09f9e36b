package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"peerstate/store"
)

// serverEnv makes the test binary a server for BenchmarkCycleAgainstRaw instead of running tests.
const serverEnv = "PEERSTATE_BENCH_SERVER"

// serveBenchmark serves on a free port, which it prints, until its standard input ends.
func serveBenchmark(which string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if which == "raw" {
		go serveRaw(l)
	} else {
		s := New(Config{Store: store.New(store.Options{})})
		go func() {
			if err := s.Serve(l); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}()
	}
	fmt.Println(l.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// startBenchmarkServer starts a process that serves, for as long as b runs.
func startBenchmarkServer(b *testing.B, which string) (addr string) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverEnv+"="+which)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := errors.Join(stdin.Close(), cmd.Wait()); err != nil {
			b.Error(err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// Pairs of runs. Each side of a pair runs twice, in the order ours, raw, raw, ours, or the other way
// round, so that whatever else the machine does meets both.
const (
	pairs  = 11
	oneRun = 500 * time.Millisecond
)

// BenchmarkCycleAgainstRaw compares the server with a raw one, each in a process of its own, in
// alternating runs: one cycle is an acquire and a PUT with the lock's cookie, of 2 KB, which is
// what a page costs. It reports the median of the ratios of all pairs; b.N means nothing.
func BenchmarkCycleAgainstRaw(b *testing.B) {
	ours, raw := startBenchmarkServer(b, "ours"), startBenchmarkServer(b, "raw")
	for _, conns := range []int{1, 32} {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
			for b.Loop() {
				var ratios, rates, rawRates []float64
				for i := range pairs {
					order := []string{ours, raw, raw, ours}
					if i%2 == 1 {
						order = []string{raw, ours, ours, raw}
					}
					got := map[string]float64{}
					for _, addr := range order {
						got[addr] += cyclesPerSecond(b, addr, conns) / 2
					}
					rates, rawRates = append(rates, got[ours]), append(rawRates, got[raw])
					ratios = append(ratios, got[ours]/got[raw])
				}
				b.ReportMetric(median(ratios), "ratio")
				b.ReportMetric(median(rates), "cycles/s")
				b.ReportMetric(median(rawRates), "raw-cycles/s")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

// cyclesPerSecond drives a server over a number of connections.
func cyclesPerSecond(b *testing.B, addr string, conns int) float64 {
	b.Helper()
	var wg sync.WaitGroup
	var cycles atomic.Int64
	begun := time.Now()
	for i := range conns {
		wg.Go(func() {
			n, err := cycle(addr, i, begun.Add(oneRun))
			if err != nil {
				b.Error(err)
			}
			cycles.Add(n)
		})
	}
	wg.Wait()
	return float64(cycles.Load()) / time.Since(begun).Seconds()
}

// cycle is one web server's connection with some sessions of its own.
func cycle(addr string, number int, end time.Time) (n int64, err error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, nc.Close()) }()
	const sessions = 64
	body := bytes.Repeat([]byte("0123456789abcdef"), 128)
	var acquires, puts [sessions][]byte
	buf := make([]byte, 8<<10)
	for i := range sessions {
		target := fmt.Sprintf("%%2fLM%%2fW3SVC%%2f1%%2fROOT%%2fshop(kZ9dJ0o8cV1pXbq3M7w5uTn2yRfHsAeL4iGjKxWvQzE%%3d)%%2fbench%04dconn%08d", i, number)
		acquires[i] = []byte("GET " + target + " HTTP/1.1\r\nHost: localhost\r\nExclusive: acquire\r\n\r\n")
		puts[i] = []byte("PUT " + target + " HTTP/1.1\r\nHost: localhost\r\nTimeout:20\r\nExtraFlags:0\r\nContent-Length: " +
			strconv.Itoa(len(body)) + "\r\nLockCookie:")
		if _, err := ask(nc, append(append(slices.Clone(puts[i]), "0\r\n\r\n"...), body...), buf); err != nil {
			return 0, err
		}
	}
	var put []byte
	for ; ; n++ {
		if n%16 == 0 && time.Now().After(end) {
			return n, nil
		}
		i := n % sessions
		answer, err := ask(nc, acquires[i], buf)
		if err != nil {
			return n, err
		}
		_, after, _ := bytes.Cut(answer, []byte("LockCookie: "))
		cookie, _, ok := bytes.Cut(after, []byte("\r\n"))
		if !ok {
			return n, fmt.Errorf("no lock: %q", answer[:min(len(answer), 300)])
		}
		put = append(append(append(append(put[:0], puts[i]...), cookie...), "\r\n\r\n"...), body...)
		if _, err := ask(nc, put, buf); err != nil {
			return n, err
		}
	}
}

// ask sends a request and reads its answer, which must be a 200.
func ask(nc net.Conn, request, buf []byte) ([]byte, error) {
	if _, err := nc.Write(request); err != nil {
		return nil, err
	}
	for n := 0; ; {
		m, err := nc.Read(buf[n:])
		if err != nil {
			return nil, err
		}
		n += m
		head := bytes.Index(buf[:n], []byte("\r\n\r\n"))
		if head < 0 {
			continue
		}
		i := bytes.Index(buf[:head], []byte("Content-Length: "))
		length, err := strconv.Atoi(string(buf[i+16 : head]))
		if err != nil {
			return nil, err
		}
		if n < head+4+length {
			continue
		}
		if !bytes.HasPrefix(buf, []byte("HTTP/1.1 200 ")) {
			return nil, fmt.Errorf("answered %q", buf[:head])
		}
		return buf[:n], nil
	}
}
