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

// A pair of runs is a second on each side, in turns of a tenth of a second, so that whatever else
// the machine does meets both.
const (
	pairs  = 12
	turns  = 10
	oneRun = 100 * time.Millisecond
)

// BenchmarkCycleAgainstRaw compares the server with a raw one, each in a process of its own: one
// cycle is an acquire and a PUT with the lock's cookie, of 2 KB, which is what a page costs. It
// reports the median of the ratios of all pairs; ns/op means nothing.
func BenchmarkCycleAgainstRaw(b *testing.B) {
	ours, raw := startBenchmarkServer(b, "ours"), startBenchmarkServer(b, "raw")
	for _, conns := range []int{1, 32} {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
			a, z := dialLoad(b, ours, conns), dialLoad(b, raw, conns)
			for b.Loop() {
				var ratios, rates, rawRates []float64
				for range pairs {
					var x, y float64
					for i := range turns {
						if i%2 == 0 {
							x += a.run(b)
							y += z.run(b)
						} else {
							y += z.run(b)
							x += a.run(b)
						}
					}
					rates, rawRates = append(rates, x/turns), append(rawRates, y/turns)
					ratios = append(ratios, x/y)
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

// load is a web server's connections to one server.
type load []*page

// dialLoad opens connections that last as long as b.
func dialLoad(b *testing.B, addr string, conns int) load {
	b.Helper()
	l := make(load, conns)
	for i := range l {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { closeQuietly(nc) })
		if l[i], err = newPage(nc, i); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

// run gives cycles per second.
func (l load) run(b *testing.B) float64 {
	b.Helper()
	var wg sync.WaitGroup
	var cycles atomic.Int64
	begun := time.Now()
	for _, p := range l {
		wg.Go(func() {
			n := int64(0)
			for ; n%16 > 0 || time.Since(begun) < oneRun; n++ {
				if err := p.cycle(); err != nil {
					b.Error(err)
					return
				}
			}
			cycles.Add(n)
		})
	}
	wg.Wait()
	return float64(cycles.Load()) / time.Since(begun).Seconds()
}

// page is a connection and the sessions whose pages it serves, one after the other.
type page struct {
	nc             net.Conn
	acquires, puts [256][]byte // a request without its body; a PUT without its cookie either
	next           int
	put, buf       []byte
}

func newPage(nc net.Conn, number int) (*page, error) {
	p := &page{nc: nc, buf: make([]byte, 8<<10)}
	for i := range p.puts {
		session := fmt.Sprintf("%s%03d%02d HTTP/1.1\r\nHost: localhost\r\n", target[:len(target)-5], i, number)
		p.acquires[i] = []byte("GET " + session + "Exclusive: acquire\r\n\r\n")
		p.puts[i] = []byte("PUT " + session + "Timeout:20\r\nExtraFlags:0\r\nContent-Length: 2048\r\nLockCookie:")
		if err := p.write(i, []byte("0")); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// cycle is what one page asks of the server.
func (p *page) cycle() error {
	i := p.next
	p.next = (i + 1) % len(p.puts)
	answer, err := ask(p.nc, p.acquires[i], p.buf)
	if err != nil {
		return err
	}
	_, after, _ := bytes.Cut(answer, []byte("LockCookie: "))
	cookie, _, ok := bytes.Cut(after, []byte("\r\n"))
	if !ok {
		return fmt.Errorf("no lock: %q", answer[:min(len(answer), 300)])
	}
	return p.write(i, cookie)
}

func (p *page) write(i int, cookie []byte) error {
	p.put = append(append(append(p.put[:0], p.puts[i]...), cookie...), "\r\n\r\n"...)
	p.put = append(p.put, kilobytes2...)
	_, err := ask(p.nc, p.put, p.buf)
	return err
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
