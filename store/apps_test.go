package store

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestOnlySiteNumberLetterCaseAndHashMakeApplicationIDsAlike(t *testing.T) {
	const one = "LM/W3SVC/1/ROOT/shop(a=)"
	for other, want := range map[string]bool{
		"LM/W3SVC/7/ROOT/shop(b=)":     true,
		"LM/W3SVC/1234/ROOT/shop(b=)":  true,
		"lm/w3svc/1/Root/Shop(b=)":     true,
		"LM/w3svc/22/root/SHOP":        true,
		"LM/W3SVC/1/ROOT/shop(b=)":     true, // two frameworks make two hashes
		one:                            false,
		"LM/W3SVC/1/ROOT/shop2(b=)":    false,
		"LM/W3SVC/1/ROOT(b=)":          false,
		"LM/W3SVC/1/ROOT/shop/x(b=)":   false,
		"LM/W3SVC/ROOT/shop(b=)":       false, // no number at all
		"LM/W3SVC/1x/ROOT/shop(b=)":    false,
		"LM/MSFTPSVC/1/ROOT/shop(b=)":  false,
		"LM/W3SVC/1/ROOT/shop(b=)/7":   false,
		"":                             false,
		"LM/W3W3SVC/9/ROOT/shop(b=)":   false,
		"LM/W3SVC/1/ROOT/w3svc/8/shop": false,
	} {
		if got := Alike(one, other); got != want {
			t.Errorf("%s and %s: alike is %v", one, other, got)
		}
	}
	if !Alike("a/w3w3svc/1/x", "a/W3W3SVC/22/x") {
		t.Error("the site's number is not found behind a false start")
	}
}

// fetched reads a session through a node, as its web server does.
func fetched(t *testing.T, n *node, key string) Answer {
	t.Helper()
	return n.Do(context.Background(), &Request{Op: Get, Key: []byte(key), Cookie: NoCookie})
}

func TestASessionUnderALookalikeIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a := net.named("a")
		one, seven := "LM/W3SVC/1/ROOT(a=)/", "LM/W3SVC/7/ROOT(b=)/"
		stored(t, a.Store, one+someID, "x")
		for key, want := range map[string]string{
			seven + someID:                       "LM/W3SVC/1/ROOT(a=)",
			seven + "another":                    "", // whose id is not here
			one + "another":                      "", // the same application
			"LM/W3SVC/7/ROOT/x(b=)/" + someID:    "", // another application
			"no slash":                           "",
			"LM/W3SVC/7/ROOT(b=)/":               "",
			"LM/W3SVC/1/ROOT(other=)/" + someID:  "LM/W3SVC/1/ROOT(a=)",
			"LM/W3SVC/1/root(a=)/" + someID:      "LM/W3SVC/1/ROOT(a=)",
			"LM/W3SVC/1/ROOT(a=)/deep/" + someID: "",
		} {
			if got, ok := a.Lookalike(key); got != want || ok != (want != "") {
				t.Errorf("%s: %q, %v, want %q", key, got, ok, want)
			}
		}
		time.Sleep(alikeFor + time.Second)
		if got, ok := a.Lookalike(seven + someID); ok {
			t.Errorf("the visitor was here long ago, and there is %s", got)
		}
		fetched(t, a, one+someID)
		if _, ok := a.Lookalike(seven + someID); !ok {
			t.Error("he has just come back")
		}
		fetched(t, a, seven+"any") // the web server has both
		if got, ok := a.Lookalike(seven + someID); ok {
			t.Errorf("both applications run here, and there is %s", got)
		}
		if saw := a.Saw([]string{"LM/W3SVC/1/ROOT(a=)", "LM/W3SVC/7/ROOT(b=)", "LM/W3SVC/8/ROOT(b=)"}); !saw[0] || !saw[1] || saw[2] {
			t.Errorf("it has seen %v", saw)
		}
	})
}

func TestWhatOtherNodesGiveIsNoApplicationOfThisOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := farm(t, "a", "b")
		a, b := net.named("a"), net.named("b")
		stored(t, a.Store, "LM/W3SVC/1/ROOT(a=)/"+someID, "x")
		net.handOver(t, a, b)
		if saw := b.Saw([]string{"LM/W3SVC/1/ROOT(a=)"}); saw[0] {
			t.Error("a session that came makes its application this node's")
		}
	})
}

// handOver has a node give all it has to another, as one that leaves does.
func (net *network) handOver(t *testing.T, from, to *node) {
	t.Helper()
	for _, h := range from.HandOut(Peer{to.name, to.instance}, 100, 1<<20, Anything) {
		if !to.Receive(Peer{from.name, from.instance}, h.ID, h.Record).Accepted || !h.Received() {
			t.Error("it was not taken")
		}
	}
}

func TestAMachineWithVeryManyApplicationsIsNotJudged(t *testing.T) {
	st := New(Options{})
	defer st.Close()
	for i := range 2 * mostApps {
		stored(t, st, fmt.Sprintf("LM/W3SVC/1/ROOT/%d(a=)/%s", i, someID), "x")
	}
	if _, ok := st.Lookalike("LM/W3SVC/7/ROOT/1(a=)/" + someID); ok {
		t.Error("it says something all the same")
	}
	if !st.Saw([]string{"never"})[0] {
		t.Error("it is sure that it never saw an application")
	}
	if n := len(st.apps.set.Load().names); n > mostApps+1 {
		t.Errorf("%d ids are kept", n)
	}
}

func TestNotingAnApplicationThatIsKnownAllocatesNothing(t *testing.T) {
	var a apps
	key := []byte("LM/W3SVC/1/ROOT(a=)/" + someID)
	a.add(key)
	if n := testing.AllocsPerRun(100, func() { a.add(key) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookalike(b *testing.B) {
	st := New(Options{})
	defer st.Close()
	st.Try(&Request{Op: Put, Key: []byte("LM/W3SVC/1/ROOT(a=)/" + someID), Cookie: NoCookie, Timeout: 20})
	for what, key := range map[string]string{"the same application": "LM/W3SVC/1/ROOT(a=)/x", "another": "LM/W3SVC/1/ROOT/y(a=)/x", "a lookalike": "LM/W3SVC/7/ROOT(b=)/x"} {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				if _, ok := st.Lookalike(key); ok {
					b.Fatal("found")
				}
			}
		})
	}
}
