package store

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestASessionIsDeletedAtTheOldServerOnlyWhenABackupHasIt(t *testing.T) {
	inKeeping(t, 1, []string{"n1", "n2"}, func(t *testing.T, k *keeping) {
		old := newOld(t)
		for _, n := range k.nodes {
			n.JoinUpstream(old)
		}
		req(old.Store, Put, "a", NoCookie, "old a")
		mustBe(t, "read", k.nodes[0].get("a"), OK, "old a")
		time.Sleep(time.Minute)
		if !old.has("a") {
			t.Fatal("it was deleted before it was safe")
		}
		k.deliver(all)
		time.Sleep(2 * time.Second)
		if old.has("a") {
			t.Error("it is not deleted")
		}
	})
}

func TestANodeThatDiesBeforeTheSessionIsSafeHasNotLostIt(t *testing.T) {
	inKeeping(t, 1, []string{"n1", "n2"}, func(t *testing.T, k *keeping) {
		old := newOld(t)
		for _, n := range k.nodes {
			n.JoinUpstream(old)
		}
		req(old.Store, Put, "a", NoCookie, "old a")
		mustBe(t, "acquire", k.nodes[0].acquire("a"), OK, "old a")
		k.crash(k.nodes[0])
		k.nodes[0].JoinUpstream(old)
		// What a page does that meets a lock for longer than it may run.
		a := k.nodes[1].acquire("a")
		mustBe(t, "acquire", a, Locked, "")
		mustBe(t, "release", k.nodes[1].release("a", a.Cookie), OK, "")
		mustBe(t, "acquire", k.nodes[1].acquire("a"), OK, "old a")
		k.rest()
	})
}

func TestAPromotedSessionIsDeletedAtTheOldServerWhenItIsSafeAgain(t *testing.T) {
	inKeeping(t, 1, []string{"n1", "n2"}, func(t *testing.T, k *keeping) {
		old := newOld(t)
		for _, n := range k.nodes {
			n.JoinUpstream(old)
		}
		req(old.Store, Put, "a", NoCookie, "old a")
		old.on(func(op Op) fate { return fate{lost: op == Delete} })
		mustBe(t, "read", k.nodes[0].get("a"), OK, "old a")
		k.deliver(all)
		k.crash(k.nodes[0]) // which has not deleted it
		old.on(nil)
		for _, b := range k.copiesOf("a") {
			k.nodes[1].PromoteBackup(b)
		}
		mustBe(t, "read", k.nodes[1].get("a"), OK, "old a")
		time.Sleep(5 * time.Second)
		if !old.has("a") {
			t.Error("it was deleted before it was safe")
		}
		k.rest()
		if old.has("a") {
			t.Error("it is not deleted")
		}
	})
}

func TestWithAJournalASessionIsDeletedAtTheOldServerWhenItIsOnDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		old := newOld(t)
		req(old.Store, Put, "a", NoCookie, "old a")
		st := journalled(t, dir, "", 1, often)
		st.JoinUpstream(old)
		old.on(func(op Op) fate { return fate{lost: op == Delete} })
		mustBe(t, "read", req(st, Get, "a", NoCookie, ""), OK, "old a")
		shut(t, st)
		if !old.has("a") {
			t.Fatal("it is gone at the old server")
		}
		// The next run does not know what became of it there, and finds out.
		old.on(nil)
		st = journalled(t, dir, "", 2, often)
		st.JoinUpstream(old)
		time.Sleep(time.Second)
		if old.has("a") {
			t.Error("the next run has not deleted it")
		}
		mustBe(t, "read", req(st, Get, "a", NoCookie, ""), OK, "old a")
		mustBe(t, "delete", req(st, Delete, "a", NoCookie, ""), OK, "")
		shut(t, st)
	})
}

func TestAtItsEndANodeTriesOnceMoreToDeleteWhatItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, st := newOld(t), New(Options{FetchTimeout: fetchTimeout})
		st.JoinUpstream(old)
		req(old.Store, Put, "a", NoCookie, "old a")
		mustBe(t, "read", req(st, Get, "a", NoCookie, ""), OK, "old a")
		st.Close() // at once
		if old.has("a") {
			t.Error("it is left at the old server")
		}
		mustBe(t, "read what is elsewhere", req(st, Get, "b", NoCookie, ""), Unknown, "")
	})
}

func TestNothingIsTakenOverThatCouldNotBeDeleted(t *testing.T) {
	migrating(t, []string{"n1"}, func(t *testing.T, old *oldServer, net *network) {
		st := net.nodes[0].Store
		old.on(func(op Op) fate { return fate{lost: op == Delete} })
		manyRemnants(st, 0)
		mustBe(t, "read", net.nodes[0].get("a"), Unknown, "")
		mustBe(t, "write", net.nodes[0].put("a", "x", 3), Unknown, "")
		st.remnants.mu.Lock()
		for key := range st.remnants.by {
			st.remnants.remove(key)
		}
		st.remnants.mu.Unlock()
		mustBe(t, "read", net.nodes[0].get("a"), OK, "old a")
	})
}

// manyRemnants gives a store so many that nothing is taken over any more, unless the cookie says that they are only suspected.
func manyRemnants(st *Store, cookie int32) {
	for i := range remnantsMost {
		st.remnants.add(string(rune('0'+i%70))+time.Duration(i).String(), remnant{cookie: cookie, again: 1 << 62})
	}
}

func TestSessionsThatAreOnlySuspectedToBeAtTheOldServerKeepNoneFromBeingTakenOver(t *testing.T) {
	migrating(t, []string{"n1"}, func(t *testing.T, _ *oldServer, net *network) {
		manyRemnants(net.nodes[0].Store, NoCookie) // as after the start of a node with very many sessions in its journal
		mustBe(t, "read", net.nodes[0].get("a"), OK, "old a")
		mustBe(t, "read what is nowhere", net.nodes[0].get("x"), NotFound, "")
	})
}
