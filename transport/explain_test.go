package transport

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"

	"peerstate/store"
)

const (
	anID  = "mbkzjsnmvgpbxytfdrlwhq5e"
	siteA = "LM/W3SVC/1/ROOT(a=)"
	siteB = "LM/W3SVC/7/ROOT(b=)"
)

// explained asks for a session by its id and gives what each node says of it, by name.
func (n *testNode) explained(id string) map[string]Account {
	n.farm.t.Helper()
	all := map[string]Account{}
	for _, a := range n.mesh.Explain(n.farm.t.Context(), store.Lookup{ID: id}) {
		all[a.Node] = a
	}
	return all
}

// In a ring of five every node explains a session in the same way: who holds it, its backup and its moves.
func TestInARingEveryNodeExplainsASession(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.backups = 1
		d := f.draw(ring(5))
		key := siteA + "/" + anID
		d.all[0].put(key, "body", 0)
		time.Sleep(time.Minute)
		f.wantAnswer("get", d.all[2].get(key), store.OK, "body")
		lock := d.all[2].acquire(key)
		time.Sleep(10 * time.Second)
		for _, n := range d.all {
			all := n.mesh.Explain(t.Context(), store.Lookup{Key: key, ID: anID})
			if len(all) != 5 || all[0].Node != n.name {
				t.Fatalf("%s has %d accounts, the first of %s", n.name, len(all), all[0].Node)
			}
			var holders, backups []string
			for _, a := range all {
				if a.NotAsked != "" || a.Up < time.Minute || a.Memory < time.Minute || a.More || a.Site != "site-"+a.Node {
					t.Errorf("%s says of %s: %+v", n.name, a.Node, a)
				}
				for _, x := range a.Traces {
					if x.App != siteA || !x.Asked || x.Hash != store.KeyHash(key) {
						t.Errorf("%s: %+v", a.Node, x)
					}
					switch x.State {
					case store.TraceHeld:
						holders = append(holders, a.Node)
						if x.Lock != lock.Cookie || x.LockAge.Round(time.Second) != 10*time.Second || x.Since.Round(time.Second) != 10*time.Second || x.Epoch != 1 || x.Size != 4 {
							t.Errorf("the holder says %+v", x)
						}
						if len(x.Copies) != 1 || !x.Copies[0].Current {
							t.Errorf("the holder's backups: %+v", x.Copies)
						}
					case store.TraceBackup:
						if x.Peer == "c" { // a has no link with e, which had one before, to tell it that it need not keep it
							backups = append(backups, a.Node)
						}
					case store.TraceMoved:
						if a.Node != "a" || x.Peer != "c" {
							t.Errorf("%s gave it to %s", a.Node, x.Peer)
						}
					}
				}
			}
			if !slices.Equal(holders, []string{"c"}) || len(backups) != 1 {
				t.Errorf("%s: held by %v, backups on %v", n.name, holders, backups)
			}
		}
		if got := d.all[2].store.Stats(); got.Active != 1 {
			t.Errorf("it has moved: %+v", got)
		}
	})
}

func TestExplainSaysWhichNodesCouldNotBeAsked(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b, c := f.start("a"), f.start("b", "a"), f.start("c", "a")
		f.linked(a, b, c)
		old, _ := f.joinAs("d", a, 1, 1)
		var mu sync.Mutex
		var asked []kind
		old.serve(func(s *quic.Stream, k kind, _ []byte) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, k)
		})
		b.put(siteA+"/"+anID, "x", 0)
		c.kill()
		time.Sleep(20 * time.Second)
		old.write(old.control, kindPing, ping{N: 1})
		all := a.explained(anID)
		if why := all["c"].NotAsked; !strings.Contains(why, "it is out for ") || all["c"].State != Out {
			t.Errorf("of one that is out: %q", why)
		}
		if why := all["d"].NotAsked; why != "its release is too old to be asked" {
			t.Errorf("of one that is too old: %q", why)
		}
		if all["b"].NotAsked != "" || len(all["b"].Traces) != 1 {
			t.Errorf("of one that is well: %+v", all["b"])
		}
		mu.Lock()
		defer mu.Unlock()
		if slices.Contains(asked, kindExplain) || slices.Contains(asked, kindUse) || a.mesh.direct("d") == nil {
			t.Errorf("the old node was asked %v, linked %v", asked, a.mesh.direct("d") != nil)
		}
	})
}

// What those behind a node of the release before know is not passed on by it.
func TestANodeBehindAnOldOneIsNotAskedWhatThatCannotKnow(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.config = func(c *Config) { c.Manual = true }
		a, b, c := f.start("a"), f.start("b", "a"), f.start("c", "b")
		time.Sleep(3 * time.Second)
		if got := a.explained(anID)["c"].NotAsked; got != "" {
			t.Fatal(got)
		}
		_ = b
		a.mesh.mu.Lock()
		stripped := *a.mesh.atlas.lists["c"]
		stripped.Speaks, stripped.Aliases = 0, ""
		a.mesh.atlas.lists["c"] = &stripped // as b would pass it on if it were older
		a.mesh.mu.Unlock()
		if got := a.explained(anID)["c"].NotAsked; !strings.Contains(got, "too old to be asked, or that of a node on the way") {
			t.Errorf("%q", got)
		}
		if value(t, c.mesh.metrics.misbehaved) != 0 {
			t.Error("it was asked")
		}
	})
}

func TestWhatANodeMayHaveExplainedIsBounded(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		r.answer(frame(kindReply, reply{Kind: store.ReplyMissing}), true)
		u.a.mesh.quota("b").explains = rate.NewLimiter(1, 5)
		busy, done := 0, 0
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 30 {
			all.Go(func() {
				s := r.open()
				r.write(s, kindExplain, explainAsk{ID: anID})
				var e explained
				if err := expect(s, kindExplained, &e); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if e.Busy {
					busy++
				} else {
					done++
				}
			})
		}
		all.Wait()
		if done < 5 || done > 10 || busy+done != 30 {
			t.Errorf("%d were answered and %d refused, want 5 at once and one a second", done, busy)
		}
		if n := u.a.refusals(refusedExplain); int(n) != busy {
			t.Errorf("%v counted as refused", n)
		}
		if n := counter(t, u.a.mesh.metrics.peerQuestions, "b", "missing"); int(n) != done {
			t.Errorf("%v counted as questions for what is not there", n)
		}
		u.check()
	})
}

// badAccounts are answers to explain that no node gives.
func badAccounts() map[string][]byte {
	many := slices.Repeat(frame(kindTrace, trace{Hash: "aa"}), store.MostTraces+1)
	return map[string][]byte{
		"another kind":        frame(kindReply, reply{}),
		"no CBOR":             rawFrame(kindTrace, []byte{0xff}),
		"a state of no kind":  frame(kindTrace, trace{State: 99}),
		"a name that is none": frame(kindTrace, trace{Peer: "\x1b[2J"}),
		"a copy on no node":   frame(kindTrace, trace{Copies: []traceCopy{{Node: ""}}}),
		"an event of no kind": frame(kindTrace, trace{Events: []traceEvent{{What: 99}}}),
		"too many":            many,
		"a huge application":  frame(kindTrace, trace{App: strings.Repeat("a", maxKey+1)}),
	}
}

func TestAnAccountThatNoNodeGivesEndsTheLink(t *testing.T) {
	for what, b := range badAccounts() {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				r := f.join("b", u.a)
				r.answer(b, false)
				all := u.a.explained(anID)
				if got := all["b"]; got.NotAsked != "its answer cannot be read" || len(got.Traces) > 0 {
					t.Errorf("%+v", got)
				}
				if all["c"].NotAsked != "" {
					t.Errorf("the honest peer: %s", all["c"].NotAsked)
				}
				u.closed(r)
				u.check()
			})
		})
	}
}

func TestANodeThatDoesNotExplainIsNotWaitedForLong(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		r.serve(func(*quic.Stream, kind, []byte) {})
		var all map[string]Account
		wantTime(t, "explaining", took(func() { all = u.a.explained(anID) }), explainWithin)
		if got := all["b"].NotAsked; got != "it has not answered within 5s" {
			t.Errorf("%q", got)
		}
		u.check()
	})
}

func TestTextInAnAccountCannotHarmATerminal(t *testing.T) {
	tr := trace{App: "LM/\x1b[2J\u202eROOT/Gr\u00f6\u00dfe", Hash: "aa\n", Client: &traceClient{Addr: "\x07", Process: "w3wp\r", PID: -1}, Left: -5, Waiting: -1, Size: -1, Stamp: 1<<64 - 1}
	got := tr.of()
	if got.App != "LM/?[2J?ROOT/Gr\u00f6\u00dfe" || got.Hash != "aa?" || *got.Client != (Client{Addr: "?", Process: "w3wp?"}) {
		t.Errorf("%+v, %+v", got, got.Client)
	}
	if got.Left != 0 || got.Waiting != 0 || got.Size != 0 || got.Stamp > 1<<62 {
		t.Errorf("%+v", got)
	}
}

func TestEveryFieldOfATraceTravels(t *testing.T) {
	in := Trace{Trace: store.Trace{State: store.TraceHeld, Hash: "0011aabb", App: siteA, Asked: true, OtherCase: true, Peer: "web1", Stamp: 5, Epoch: 6, Size: 7,
		Timeout: 8, Left: 9, Uninitialized: true, Lock: 10, LockAge: 11, Waiting: 12, Since: 13,
		Copies: []store.TraceCopy{{Node: "web2", Current: true}}, Events: []store.TraceEvent{{What: store.EventCame, Peer: "web3", Ago: 14}}},
		Client: &Client{Addr: "127.0.0.1:5", Open: true, Process: "w3wp.exe", PID: 15}}
	out := traceOf(&in)
	if err := out.check(); err != nil {
		t.Fatal(err)
	}
	back := out.of()
	if fmt.Sprintf("%+v %+v", in.Trace, *in.Client) != fmt.Sprintf("%+v %+v", back.Trace, *back.Client) {
		t.Errorf("%+v became %+v", in, back)
	}
}

func TestOtherAliasesAreSaid(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		aliases := map[string]string{"a": "0011", "b": "0011", "c": "0022", "d": ""}
		var starting string
		f.config = func(c *Config) { c.Aliases, c.Manual = aliases[starting], true }
		start := func(name string, peers ...string) *testNode {
			starting = name
			return f.start(name, peers...)
		}
		a, b := start("a"), start("b", "a")
		start("c", "b") // a sees it through b
		start("d", "a")
		old, _ := f.joinAs("e", a, 1, 1)
		old.answer(frame(kindReply, reply{Kind: store.ReplyMissing}), true)
		time.Sleep(4 * time.Second)
		old.write(old.control, kindPing, ping{N: 1})
		got := map[string]string{}
		for _, p := range a.mesh.Peers() {
			got[p.Node] = p.Aliases
		}
		for name, want := range map[string]string{"b": "", "c": "are not this node's", "d": "it has no PEERSTATE_APP_ALIASES", "e": "its release knows no"} {
			if want == "" && got[name] != "" || !strings.Contains(got[name], want) {
				t.Errorf("of %s: %q, want %q", name, got[name], want)
			}
		}
		for _, name := range []string{"c", "d", "e"} {
			f.wantLogged("a", "level=WARN", "other aliases of application ids", "peer="+name+" ")
		}
		if n := len(f.log.lines("a", "other aliases", "peer=b ")); n != 0 {
			t.Error("the same ones are said to be others")
		}
		_ = b
		synctest.Wait()
	})
}
