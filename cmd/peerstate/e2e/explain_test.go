package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// explained is what peerstate explain --json gives.
type explained struct {
	Found    bool
	Sessions []struct {
		Application, State, Holder string
		Lock                       *struct {
			Cookie  int
			Open    bool `json:"client_open"`
			Process string
			PID     int
		}
		Backups []struct {
			Node    string
			Current bool
		}
		Events []struct{ Node, What, Peer string }
	}
	Reasons []string
	Nodes   []struct {
		Node     string
		NotAsked string `json:"not_asked"`
	}
}

// explain runs the command on a node, gives what it says, and wants that there is such a session, or not.
func (n *node) explain(found bool, what string) (x explained, page string) {
	n.farm.t.Helper()
	for _, args := range [][]string{{"explain", what, "--json"}, {"explain", "-"}} {
		cmd := exec.Command(program, args...)
		cmd.Env = n.settings()
		cmd.Stdin = strings.NewReader(what + "\n")
		out, err := cmd.Output()
		if (err == nil) != found {
			n.farm.t.Fatalf("explain on %s: %v\n%s", n.name, err, out)
		}
		page = string(out)
		if args[len(args)-1] == "--json" {
			if err := json.Unmarshal(out, &x); err != nil || x.Found != found {
				n.farm.t.Fatalf("explain --json on %s: %v\n%s", n.name, err, out)
			}
		}
	}
	if strings.Contains(page, what) {
		n.farm.t.Errorf("the session id is in the page:\n%s", page)
	}
	return x, page
}

// explaining makes nodes with a control socket, which port 0 has none of, that are linked.
func explaining(t *testing.T, names ...string) (*farm, []*node) {
	f := newFarm(t)
	var nodes []*node
	for _, name := range names {
		n := f.node(name).controlled()
		n.start(nodes...)
		nodes = append(nodes, n)
	}
	f.linked(nodes...)
	return f, nodes
}

// As an operator does it: a visitor's page hangs, and he asks on any node who has the session's lock.
func TestExplainFindsTheProcessThatHasASessionsLock(t *testing.T) {
	t.Parallel()
	f, nodes := explaining(t, "london", "tokyo", "paris")
	london, tokyo, paris := nodes[0], nodes[1], nodes[2]
	const id = "mbkzjsnmvgpbxytfdrlwhq5e"
	london.want(200, "", "PUT", id, "hello")
	program, err := os.Executable() // this test is the web server
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Base(program) // of which Linux tells the first 15 letters
	page := tokyo.connect()       // stays open
	if a, err := page.request("GET", id, "", acquire); err != nil || a.status != 200 {
		t.Fatal(a, err)
	}
	f.until("a backup has it", func() bool {
		x, _ := paris.explain(true, id)
		s := x.Sessions[0]
		return len(s.Backups) > 0 && s.Backups[0].Current
	})
	for _, n := range nodes {
		x, text := n.explain(true, id)
		s := x.Sessions[0]
		if len(x.Sessions) != 1 || s.State != "held" || s.Holder != "tokyo" || s.Lock == nil || s.Lock.Cookie != 2 || !s.Lock.Open {
			t.Fatalf("%s says\n%s", n.name, text)
		}
		if runtime.GOOS != "darwin" && (s.Lock.Process == "" || !strings.HasPrefix(own, s.Lock.Process) || s.Lock.PID != os.Getpid()) {
			t.Errorf("%s says that process %d, %q, has the lock", n.name, s.Lock.PID, s.Lock.Process)
		}
		if fmt.Sprint(s.Events) != "[{london created } {tokyo came london}]" {
			t.Errorf("%s says that this happened: %v", n.name, s.Events)
		}
	}
	if err := page.Close(); err != nil {
		t.Fatal(err)
	}
	f.until("the connection is closed", func() bool {
		x, text := london.explain(true, id)
		return !x.Sessions[0].Lock.Open && strings.Contains(text, "which is closed")
	})
	paris.kill()
	f.until("paris is missed", func() bool { return london.state("paris") != "up" })
	x, text := london.explain(false, "another")
	if len(x.Nodes) != 3 || !strings.Contains(strings.Join(x.Reasons, " "), "paris could not be asked, and may have it") {
		t.Error(text)
	}
	tokyo.want(200, "", "DELETE", id, "", "LockCookie: 2")
	if x, text = london.explain(false, id); !strings.Contains(strings.Join(x.Reasons, " "), "was deleted at") {
		t.Error(text)
	}
}

// The mistake: one machine has the site under another number. It is noticed, explained, and mended with the line that is given.
func TestTheMistakeOfSiteNumbersIsNoticedAndMended(t *testing.T) {
	t.Parallel()
	f, nodes := explaining(t, "london", "tokyo")
	london, tokyo := nodes[0], nodes[1]
	const id = "mbkzjsnmvgpbxytfdrlwhq5e"
	const seven = "%2fLM%2fW3SVC%2f7%2fROOT(b2c%3d)%2f"
	get := func(n *node) answer {
		w := n.connect()
		defer w.Close()
		a, err := w.under(seven, "GET", id, "")
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	london.want(200, "", "PUT", id, "hello")
	if a := get(tokyo); a.status != 404 {
		t.Fatal(a)
	}
	const line = "PEERSTATE_APP_ALIASES=/LM/W3SVC/7/ROOT(b2c=)=/LM/W3SVC/1/ROOT(aGFzaA==)"
	f.until("london warns", func() bool { return strings.Contains(string(london.get("/readyz")), line) })
	f.until("london has logged it", func() bool { return london.logged(line) }) // it comes through a pipe
	if london.logged(id) || tokyo.logged(id) {
		t.Error("the session id is in the log")
	}
	tokyo.stop()
	tokyo.env = append(tokyo.env, line)
	tokyo.restart()
	f.linked(nodes...)
	f.until("the other aliases are said", func() bool {
		return strings.Contains(string(london.get("/readyz")), "peer tokyo keeps sessions under other keys: it has PEERSTATE_APP_ALIASES, and this node has none")
	})
	london.stop() // it hands its sessions over
	london.env = append(london.env, line)
	london.restart()
	f.linked(nodes...)
	if text := string(london.get("/readyz")); strings.Contains(text, "ALIASES") {
		t.Errorf("with the same aliases on both: %s", text)
	}
	a := get(tokyo)
	for end := time.Now().Add(20 * time.Second); a.status == 423 && time.Now().Before(end); a = get(tokyo) {
		time.Sleep(50 * time.Millisecond)
	}
	if a.status != 200 || a.body != "hello" {
		t.Errorf("the visitor comes to tokyo: %+v", a)
	}
	if x, text := london.explain(true, id); len(x.Sessions) != 1 || x.Sessions[0].Application != "/LM/W3SVC/1/ROOT(aGFzaA==)" {
		t.Error(text)
	}
}
