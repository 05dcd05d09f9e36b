package transport

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/store"
)

// wantMistake checks what a node says of two application ids that seem to be one; "": nothing.
func (n *testNode) wantMistake(alias string, nodes ...string) {
	t := n.farm.t
	t.Helper()
	got := n.mesh.Mistakes()
	if alias == "" {
		if len(got) != 0 {
			t.Errorf("%s says that %v", n.name, got)
		}
		return
	}
	if len(got) != 1 {
		t.Errorf("%s says %d things, want one", n.name, len(got))
		return
	}
	k := &got[0]
	if users := fmt.Sprint(k.Nodes); k.Alias() != alias || users != fmt.Sprintf("[[%s] [%s]]", nodes[0], nodes[1]) {
		t.Errorf("%s says: %s on %s, want %s", n.name, k.Alias(), users, alias)
	}
	for _, id := range k.IDs {
		if !strings.Contains(k.String(), "/"+id) {
			t.Errorf("%q does not name %s", k, id)
		}
	}
	if !strings.Contains(k.String(), "PEERSTATE_APP_ALIASES="+alias) || !strings.Contains(k.String(), "?") {
		t.Errorf("%q", k)
	}
}

const joinAB = "/LM/W3SVC/7/ROOT(b=)=/LM/W3SVC/1/ROOT(a=)"

// The classical mistake, in a farm whose nodes are not all linked: one machine has the site under number 1, the other under 7.
func TestOneApplicationWithTwoSiteNumbersIsNoticed(t *testing.T) {
	for what, tp := range map[string]topology{"full mesh": full(4), "line": line(4)} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				f.config = func(c *Config) { c.calm = 5 * time.Second } // hours pass
				d := f.draw(tp)
				a, b, other := d.all[0], d.all[3], d.all[1]
				a.put(siteA+"/"+anID, "x", 0)
				other.put(siteA+"/another", "x", 0)
				f.wantAnswer("the visitor comes to b", b.get(siteB+"/"+anID), store.NotFound, "")
				time.Sleep(time.Second)
				a.wantMistake(joinAB, "a b", "d")
				d.all[2].wantMistake("")
				f.wantLogged("a", "level=WARN", "two application ids", "application=\"/"+siteA+"\"", "other=\"/"+siteB+"\"", "nodes=a,b", "other_nodes=d", "alias=\"PEERSTATE_APP_ALIASES="+joinAB)
				if strings.Contains(f.log.String(), anID) {
					t.Error("the session id is in the log")
				}
				for range 20 { // it is said once
					time.Sleep(time.Minute)
					b.get(siteB + "/" + anID)
				}
				f.wantLogged("a", "level=WARN", "two application ids")
				time.Sleep(2 * mistakeKept)
				a.wantMistake("")
			})
		})
	}
}

func TestApplicationsOfOneDomainAreNoMistake(t *testing.T) {
	for what, c := range map[string]struct {
		before func(a, b, c *testNode)
		asked  string
	}{
		"the holder's web server has both": {func(a, _, _ *testNode) { a.put(siteB+"/other", "x", 0) }, siteB + "/" + anID},
		"the asker's has both":             {func(_, b, _ *testNode) { b.put(siteA+"/other", "x", 0) }, siteB + "/" + anID},
		"a third one's has both":           {func(_, _, c *testNode) { c.put(siteA+"/1", "x", 0); c.put(siteB+"/1", "x", 0) }, siteB + "/" + anID},
		"the paths are different":          {func(_, _, _ *testNode) {}, "LM/W3SVC/7/ROOT/shop(b=)/" + anID},
		"the session ids are different":    {func(_, _, _ *testNode) {}, siteB + "/another"},
		"the session was used long ago":    {func(_, _, _ *testNode) { time.Sleep(11 * time.Minute) }, siteB + "/" + anID},
		"it is the same application":       {func(_, _, _ *testNode) {}, siteA + "/another"},
		"no web server can have that id":   {func(_, _, _ *testNode) {}, "LM/W3SVC/7\x1b/ROOT(b=)/" + anID},
		"a node of the release before is up": {func(a, _, _ *testNode) {
			r, _ := a.farm.joinAs("d", a, 1, 1)
			r.serve(func(s *quic.Stream, k kind, _ []byte) {
				if k == kindQuestion {
					_ = writeFrame(s, kindReply, reply{Kind: store.ReplyMissing})
					_ = s.Close()
				}
			})
		}, siteB + "/" + anID},
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				a, b, third := f.start("a"), f.start("b", "a"), f.start("c", "a")
				f.linked(a, b, third)
				a.put(siteA+"/"+anID, "x", 0)
				c.before(a, b, third)
				f.wantAnswer("it", b.get(c.asked), store.NotFound, "")
				time.Sleep(time.Second)
				for _, n := range []*testNode{a, b, third} {
					n.wantMistake("")
				}
			})
		})
	}
}

// What was taken for a mistake is taken back when a node shows that there are two applications.
func TestAMistakeThatIsNoneIsTakenBack(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := f.start("a"), f.start("b", "a")
		f.linked(a, b)
		a.put(siteA+"/"+anID, "x", 0)
		b.get(siteB + "/" + anID)
		time.Sleep(time.Second)
		a.wantMistake(joinAB, "a", "b")
		b.put(siteA+"/other", "x", 0)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		a.wantMistake("")
		f.wantLogged("a", "level=INFO", "are two: b uses both")
	})
}

func TestANodeIsAskedSeldomWhatItsWebServerUses(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := f.start("a"), f.start("b", "a")
		f.linked(a, b)
		r := f.join("c", a)
		asked := 0
		r.serve(func(s *quic.Stream, k kind, _ []byte) {
			switch k {
			case kindUse:
				asked++
				_ = writeFrame(s, kindUsed, used{[]bool{true, true}})
			case kindQuestion:
				_ = writeFrame(s, kindReply, reply{Kind: store.ReplyMissing})
			}
			_ = s.Close()
		})
		for i := range 100 {
			id := fmt.Sprint(i)
			a.put(siteA+"/"+id, "x", 0)
			b.get(siteB + "/" + id)
			time.Sleep(time.Second)
		}
		if asked != 1 {
			t.Errorf("it was asked %d times in 100 s whether it uses both, which it does", asked)
		}
	})
}

func TestAnAliasIsWrittenSoThatItCanBePasted(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"LM/W3SVC/1/ROOT(a=)", "LM/W3SVC/7/ROOT(b+/=)", "/LM/W3SVC/7/ROOT(b+/=)=/LM/W3SVC/1/ROOT(a=)"},
		{"LM/W3SVC/12/ROOT(a=)", "LM/W3SVC/7/ROOT(b=)", "/LM/W3SVC/12/ROOT(a=)=/LM/W3SVC/7/ROOT(b=)"},
		{"LM/W3SVC/1/Root(a=)", "LM/W3SVC/1/ROOT(b=)", "/LM/W3SVC/1/Root(a=)=/LM/W3SVC/1/ROOT(b=)"},
		{"LM/W3SVC/1/a,b=(c)%+(a=)", "LM/W3SVC/2/a,b=(c)%+(b=)", "/LM/W3SVC/2/a%2cb%3d%28c%29%25%2b(b=)=/LM/W3SVC/1/a%2cb%3d%28c%29%25%2b(a=)"},
	} {
		one, other := MistakeOf(c.a, c.b), MistakeOf(c.b, c.a)
		if got := one.Alias(); got != c.want || got != other.Alias() {
			t.Errorf("%s and %s: %s and %s, want %s", c.a, c.b, got, other.Alias(), c.want)
		}
	}
}

func TestWrongAnswersAboutApplicationsEndTheLink(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		r.serve(func(s *quic.Stream, k kind, _ []byte) {
			switch k {
			case kindUse:
				_ = writeFrame(s, kindUsed, used{[]bool{true, false, true}})
			case kindQuestion:
				_ = writeFrame(s, kindReply, reply{Kind: store.ReplyMissing})
			}
			_ = s.Close()
		})
		u.a.put(siteA+"/"+anID, "x", 0)
		u.c.get(siteB + "/" + anID)
		u.closed(r)
		u.a.wantMistake("")
		u.check()
	})
}
