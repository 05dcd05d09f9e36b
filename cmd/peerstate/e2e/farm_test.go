package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// program is what the tests run: built by TestMain, unless it is given.
var program = os.Getenv("E2E_PROGRAM")

func TestMain(m *testing.M) { os.Exit(build(m)) }

func build(m *testing.M) int {
	if dir := os.Getenv(rawListener); dir != "" {
		if err := listenRaw(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	if program != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "peerstate-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "peerstate")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	args := append([]string{"build", "-o", program}, buildFlags...)
	if out, err := exec.Command("go", append(args, "peerstate/cmd/peerstate")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// farm is a number of real nodes on this machine.
type farm struct {
	t   testing.TB
	dir string
}

func newFarm(t testing.TB) *farm {
	f := &farm{t: t, dir: t.TempDir()}
	f.command("cert", "init", "--ca", filepath.Join(f.dir, "ca"), "--farm", "e2e")
	return f
}

// command runs one to its end, which must be good.
func (f *farm) command(args ...string) string {
	f.t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		f.t.Fatalf("peerstate %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// node is one process.
type node struct {
	farm  *farm
	name  string
	peer  string   // UDP port, the same after a restart
	env   []string // further settings
	under []string // a command that the program is started under; nil: none
	peers []*node  // that it dials
	mu    sync.Mutex
	web   string // under mu
	admin string
	cmd   *exec.Cmd
	log   *output
	ended chan error
}

// output gathers what a process logs.
type output struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.String()
}

// node makes a node with a certificate and a UDP port of its own; start runs it.
func (f *farm) node(name string, env ...string) *node {
	f.t.Helper()
	f.command("cert", "issue", name, "--ca", filepath.Join(f.dir, "ca"), "--out", filepath.Join(f.dir, name))
	return (&node{farm: f, name: name, peer: freeUDP(f.t), env: env}).controlled()
}

// controlled gives a node a control socket, which it does not have by itself without a fixed port.
func (n *node) controlled() *node {
	n.env = append(n.env, "PEERSTATE_CONTROL="+newSocket(n.farm.t))
	return n
}

// commandFor makes one that finds the sidecar by its settings.
func (n *node) commandFor(args ...string) *exec.Cmd {
	c := exec.Command(program, args...)
	c.Env = n.settings()
	return c
}

// freeUDP picks an address that nothing else uses just now, and no other test has been given.
func freeUDP(t testing.TB) string {
	t.Helper()
	for {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := c.LocalAddr().String()
		c.Close()
		if _, taken := given.LoadOrStore(addr, true); !taken {
			return addr
		}
	}
}

var given sync.Map // addresses that freeUDP has picked

var readyLine = regexp.MustCompile(`\bready node=.*`)

// start runs a node that dials the others, and returns when it is ready.
func (n *node) start(peers ...*node) {
	n.farm.t.Helper()
	n.peers = peers
	n.log = &output{}
	args := append(slices.Clone(n.under), program, "serve")
	n.cmd = exec.Command(args[0], args[1:]...)
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	n.cmd.Env = n.settings()
	if err := n.cmd.Start(); err != nil {
		n.farm.t.Fatal(err)
	}
	n.ended = make(chan error, 1)
	cmd, ended := n.cmd, n.ended
	go func() { ended <- cmd.Wait() }()
	n.farm.t.Cleanup(func() {
		if err := cmd.Process.Kill(); err == nil {
			<-ended
		}
		if n.farm.t.Failed() {
			n.farm.t.Logf("%s logged:\n%s", n.name, n.log)
		}
	})
	n.farm.until("ready", func() bool {
		line := readyLine.FindString(n.log.String())
		n.mu.Lock()
		defer n.mu.Unlock()
		n.web, n.admin = field(line, "listen"), field(line, "admin")
		return n.admin != "" // which has every node, also one without a web server
	})
}

// settings is the environment of a node's processes.
func (n *node) settings() (environ []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PEERSTATE_") {
			environ = append(environ, v)
		}
	}
	var addrs []string
	for _, p := range n.peers {
		addrs = append(addrs, p.peer)
	}
	environ = append(environ, "PEERSTATE_LISTEN=127.0.0.1:0", "PEERSTATE_ADMIN_LISTEN=127.0.0.1:0",
		"PEERSTATE_CERT_DIR="+filepath.Join(n.farm.dir, n.name), "PEERSTATE_PEER_LISTEN="+n.peer,
		"PEERSTATE_PEERS="+strings.Join(addrs, ","), "PEERSTATE_SITE="+n.name)
	return append(environ, n.env...)
}

// restart runs a node again as it was started.
func (n *node) restart() {
	n.farm.t.Helper()
	n.start(n.peers...)
}

func field(line, name string) string {
	if m := regexp.MustCompile(` ` + name + `=(\S+)`).FindStringSubmatch(line); m != nil {
		return m[1]
	}
	return ""
}

// kill ends a node as kill -9 does.
func (n *node) kill() {
	n.farm.t.Helper()
	if err := n.cmd.Process.Kill(); err != nil {
		n.farm.t.Fatal(err)
	}
	<-n.ended
	n.freed()
}

// stop ends a node as an operator does, and wants exit code 0.
func (n *node) stop() {
	n.farm.t.Helper()
	n.interrupt()
	select {
	case err := <-n.ended:
		if err != nil {
			n.farm.t.Fatalf("%s ended with %v:\n%s", n.name, err, n.log)
		}
	case <-time.After(20 * time.Second):
		n.farm.t.Fatalf("%s does not stop:\n%s", n.name, n.log)
	}
}

// until waits for something that has to happen within half a minute.
func (f *farm) until(what string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			f.t.Fatalf("not %s after 30 s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

type status struct {
	Node     string
	Sessions struct{ Active int }
	Peers    []struct {
		Node, State, Reason string
		RTT                 *float64 `json:"rtt_ms"`
		Sessions            *int64   // nil: no link of its own
	}
}

func (n *node) status() (s status, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.admin+"/api/status", nil)
	if err != nil {
		return s, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	a, err := client.Do(r)
	if err != nil {
		return s, err
	}
	defer a.Body.Close()
	return s, json.NewDecoder(a.Body).Decode(&s)
}

// state is what the node says of another one.
func (n *node) state(peer string) string {
	s, err := n.status()
	if err != nil {
		n.farm.t.Fatal(err)
	}
	for _, p := range s.Peers {
		if p.Node == peer {
			return p.State
		}
	}
	return ""
}

// startBoth runs two nodes, each of which dials the other, and returns when they are linked.
func (f *farm) startBoth(a, b *node) {
	f.t.Helper()
	a.start(b)
	b.start(a)
	f.linked(a, b)
}

// linked waits until the nodes are linked with each other.
func (f *farm) linked(nodes ...*node) {
	f.t.Helper()
	for _, a := range nodes {
		for _, b := range nodes {
			if a != b {
				f.until(a.name+" linked with "+b.name, func() bool { return a.state(b.name) == "up" })
			}
		}
	}
}

// web is a web server's connection.
type web struct {
	net.Conn
	r *bufio.Reader
}

// answer is what a state server said; status 0: it closed the connection.
type answer struct {
	status int
	header map[string]string
	body   string
}

func (n *node) connect() *web {
	n.farm.t.Helper()
	w, err := n.dial()
	if err != nil {
		n.farm.t.Fatal(err)
	}
	n.farm.t.Cleanup(func() { w.Close() })
	return w
}

// dial is connect where the node may not be running.
func (n *node) dial() (*web, error) {
	n.mu.Lock()
	addr := n.web
	n.mu.Unlock()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &web{c, bufio.NewReader(c)}, nil
}

// request sends one request and reads its answer.
func (w *web) request(method, id, body string, header ...string) (answer, error) {
	return w.under("%2fLM%2fW3SVC%2f1%2fROOT(aGFzaA%3d%3d)%2f", method, id, body, header...)
}

// under is request for another application.
func (w *web) under(application, method, id, body string, header ...string) (answer, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s%s HTTP/1.1\r\nHost: localhost\r\n", method, application, id)
	for _, h := range header {
		b.WriteString(h + "\r\n")
	}
	if method == "PUT" {
		fmt.Fprintf(&b, "Timeout:20\r\nContent-Length:%d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	if err := w.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return answer{}, err
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return answer{}, nil // closed
	}
	line, err := w.r.ReadString('\n')
	if err != nil {
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			return answer{}, err
		}
		return answer{}, nil // closed
	}
	a := answer{header: map[string]string{}}
	if a.status, err = strconv.Atoi(strings.Fields(line)[1]); err != nil {
		return a, err
	}
	for {
		if line, err = w.r.ReadString('\n'); err != nil {
			return a, err
		}
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			break
		}
		a.header[name] = strings.TrimSpace(value)
	}
	length, err := strconv.Atoi(a.header["Content-Length"])
	if err != nil {
		return a, err
	}
	contents := make([]byte, length)
	_, err = io.ReadFull(w.r, contents)
	a.body = string(contents)
	return a, err
}

// do is request for what must have an answer, or a closed connection.
func (n *node) do(method, id, body string, header ...string) answer {
	n.farm.t.Helper()
	w := n.connect()
	defer w.Close()
	a, err := w.request(method, id, body, header...)
	if err != nil {
		n.farm.t.Fatalf("%s on %s: %v", method, n.name, err)
	}
	return a
}

func (n *node) want(status int, contents, method, id, body string, header ...string) answer {
	n.farm.t.Helper()
	a := n.do(method, id, body, header...)
	if a.status != status || a.body != contents {
		n.farm.t.Fatalf("%s %v on %s: %d %q, want %d %q", method, header, n.name, a.status, a.body, status, contents)
	}
	return a
}

// served waits until a node serves a session, which must have these contents and not be missing meanwhile.
func (n *node) served(id, contents string) {
	n.farm.t.Helper()
	n.farm.until(id+" on "+n.name, func() bool {
		a := n.do("GET", id, "")
		if a.status == 404 || a.status == 200 && a.body != contents {
			n.farm.t.Fatalf("%s says of %s: %d %.40q (%d bytes), want %.40q", n.name, id, a.status, a.body, len(a.body), contents)
		}
		return a.status == 200
	})
}

// missing waits until a node is sure that there is no such session; it must not serve one meanwhile.
func (n *node) missing(id string) {
	n.farm.t.Helper()
	n.farm.until(id+" missing, says "+n.name, func() bool {
		a := n.do("GET", id, "")
		if a.status != 404 && a.status != 423 {
			n.farm.t.Fatalf("%s says of %s, which does not exist: %d %.40q", n.name, id, a.status, a.body)
		}
		return a.status == 404
	})
}

const acquire = "Exclusive: acquire"

func cookie(a answer) string { return "LockCookie: " + a.header["LockCookie"] }
