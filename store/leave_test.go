package store

import (
	"fmt"
	"strings"
	"testing"
)

func TestASessionIsHandedOutLastToTheNodeThatBacksItUp(t *testing.T) {
	inKeeping(t, 1, []string{"a", "b", "c"}, func(t *testing.T, k *keeping) {
		a, b := k.nodes[0], k.nodes[1]
		const many = 100
		var locked string
		for i := range many {
			a.write(fmt.Sprint(i), "cart")
		}
		k.rest()
		at := map[string]int{}
		for i := range many {
			for name := range k.copiesOf(fmt.Sprint(i)) {
				at[name]++
				if name == "b" {
					locked = fmt.Sprint(i)
				}
			}
		}
		if at["b"] == 0 || at["c"] == 0 || at["b"]+at["c"] != many {
			t.Fatalf("the backups are at %v", at)
		}
		a.acquire(locked)
		a.Leave()
		var out []*Handover
		for _, step := range []struct {
			which Choice
			want  int
		}{{Apart, at["c"]}, {Unlocked, at["b"] - 1}, {Anything, 1}, {Anything, 0}} {
			got := a.HandOut(Peer{b.name, b.instance}, many, 1<<20, step.which)
			if len(got) != step.want {
				t.Errorf("choice %d: %d sessions, want %d", step.which, len(got), step.want)
			}
			out = append(out, got...)
		}
		for _, h := range out {
			h.Declined(Version{})
		}
	})
}

func TestNoMoreBytesAreFrozenThanAskedForButForOneSession(t *testing.T) {
	st := New(Options{Node: "a", Instance: 1, FetchTimeout: fetchTimeout})
	defer st.Close()
	for i := range 10 {
		st.Try(&Request{Op: Put, Key: fmt.Append(nil, i), Timeout: 20, Body: []byte(strings.Repeat("x", 1000))})
	}
	to := Peer{"b", 2}
	for _, c := range []struct{ n, bytes, want int }{{2, 1 << 20, 2}, {10, 2500, 3}, {10, 1, 1}, {10, 1 << 20, 4}, {10, 1 << 20, 0}} {
		if got := st.HandOut(to, c.n, c.bytes, Unlocked); len(got) != c.want {
			t.Errorf("%d sessions for %d and %d bytes, want %d", len(got), c.n, c.bytes, c.want)
		}
	}
}
