package store

import (
	"testing"

	"pgregory.net/rapid"
)

func TestTheRulesOfTheOrder(t *testing.T) {
	uninit := func(v Version) Version { v.Uninitialized = true; return v }
	tomb := func(v Version) Version { v.Tombstone, v.Deleted = true, v.Stamp; return v }
	for _, c := range []struct {
		name           string
		session, stale Version
	}{
		{"the later stamp wins", Version{Stamp: 2}, Version{Stamp: 1}},
		{"the later stamp wins against any epoch", Version{Stamp: 2, Epoch: 1}, Version{Stamp: 1, Epoch: 9}},
		{"of equal stamps the higher epoch wins", Version{Stamp: 1, Epoch: 2}, Version{Stamp: 1, Epoch: 1}},
		{"anything wins from nothing", uninit(Version{Stamp: 1}), Version{}},
		{"a deletion wins from what was written before", tomb(Version{Stamp: 2}), Version{Stamp: 1, Epoch: 3}},
		{"a deletion wins from an older empty session", tomb(Version{Stamp: 2}), uninit(Version{Stamp: 1})},
		{"a session written after the deletion wins from it", Version{Stamp: 3, Deleted: 2}, tomb(Version{Stamp: 2})},
		{"an empty session created after the deletion wins from it", uninit(Version{Stamp: 3, Deleted: 2}), tomb(Version{Stamp: 2})},
		{"an initialised session wins from a later empty one", Version{Stamp: 1}, uninit(Version{Stamp: 2})},
		{"an initialised session wins from an empty one with a higher epoch", Version{Stamp: 1}, uninit(Version{Stamp: 1, Epoch: 5})},
		{"an initialised session wins from an empty one whose deletion came before it", Version{Stamp: 5}, uninit(Version{Stamp: 9, Deleted: 4})},
		{"an empty session wins from what was deleted before it", uninit(Version{Stamp: 9, Deleted: 5}), Version{Stamp: 4}},
		{"an empty session wins from what its deletion has the stamp of", uninit(Version{Stamp: 9, Deleted: 5}), Version{Stamp: 5}},
		{"of two empty sessions the later wins", uninit(Version{Stamp: 9}), uninit(Version{Stamp: 8, Epoch: 4})},
		{"a deletion wins from a later empty session that does not know of it", tomb(Version{Stamp: 2}), uninit(Version{Stamp: 3})},
		{"of two empty sessions that wins which knows of the later deletion", uninit(Version{Stamp: 8, Deleted: 4}), uninit(Version{Stamp: 9, Deleted: 3})},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.session.Compare(c.stale) <= 0 || c.stale.Compare(c.session) >= 0 {
				t.Errorf("%+v against %+v: %d, and the other way round %d", c.session, c.stale,
					c.session.Compare(c.stale), c.stale.Compare(c.session))
			}
		})
	}
}

// versions draws versions from so few values that all rules meet. They are such as a node makes: a
// deletion is its own last one, and a session is later than its key's last deletion.
func versions(t *rapid.T, name string) Version {
	v := Version{
		Stamp: Stamp(rapid.IntRange(1, 6).Draw(t, name+" stamp")),
		Epoch: uint64(rapid.IntRange(0, 2).Draw(t, name+" epoch")),
	}
	switch rapid.IntRange(0, 2).Draw(t, name+" kind") {
	case 0:
		v.Tombstone, v.Deleted = true, v.Stamp
		return v
	case 1:
		v.Uninitialized = true
	}
	v.Deleted = Stamp(rapid.IntRange(0, int(v.Stamp)-1).Draw(t, name+" deleted"))
	return v
}

// TestTwoRecordsAreOrderedTheSameWayOnBothNodes: antisymmetric and total, so that two nodes that
// compare their records drop the same one.
func TestTwoRecordsAreOrderedTheSameWayOnBothNodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := versions(t, "a"), versions(t, "b")
		if a.Compare(b) != -b.Compare(a) {
			t.Fatalf("%d one way and %d the other: %+v, %+v", a.Compare(b), b.Compare(a), a, b)
		}
		if a.Compare(a) != 0 {
			t.Fatalf("%+v is not equal to itself", a)
		}
		if a.Compare(b) == 0 && (a.Stamp != b.Stamp || a.Epoch != b.Epoch) {
			t.Fatalf("two writes are called one: %+v, %+v", a, b)
		}
	})
}

func TestTheOrderMakesNoCircles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := versions(t, "a"), versions(t, "b"), versions(t, "c")
		if rapid.IntRange(0, 20).Draw(t, "nothing") == 0 {
			b = Version{}
		}
		ab, bc, ac := a.Compare(b), b.Compare(c), a.Compare(c)
		if ab >= 0 && bc >= 0 && (ac < 0 || ac == 0 && (ab > 0 || bc > 0)) {
			t.Fatalf("a circle: %+v, %+v, %+v", a, b, c)
		}
	})
}

// TestAnEmptySessionDisplacesOnlyWhatWasDeletedBeforeIt, and a deletion wins from all that is older.
func TestAnEmptySessionDisplacesOnlyWhatWasDeletedBeforeIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := versions(t, "a"), versions(t, "b")
		wins := a.Compare(b) > 0
		switch {
		case a.Tombstone && a.Stamp > b.Stamp && !wins:
			t.Fatalf("the deletion %+v loses to the older %+v", a, b)
		case a.Uninitialized && !b.Uninitialized && !b.Tombstone && wins != (b.Stamp <= a.Deleted):
			t.Fatalf("the empty %+v against %+v: %v", a, b, wins)
		case a.Uninitialized && b.Tombstone && b.Stamp == a.Deleted && !wins:
			t.Fatalf("%+v loses to the deletion that it came after: %+v", a, b)
		case !a.Uninitialized && !b.Uninitialized && (a.Stamp > b.Stamp || a.Stamp == b.Stamp && a.Epoch > b.Epoch) && !wins:
			t.Fatalf("%+v loses to the older %+v", a, b)
		}
	})
}

func TestARecordThatNoNodeSendsIsNotTaken(t *testing.T) {
	good := Record{Key: "k", Stamp: 1, Timeout: 20, Left: 1, Cookie: 1}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Record){
		"no key":                   func(r *Record) { r.Key = "" },
		"no stamp":                 func(r *Record) { r.Stamp = 0 },
		"a stamp near the end":     func(r *Record) { r.Stamp = maxStamp + 1 },
		"a deletion near the end":  func(r *Record) { r.Deleted = maxStamp + 1 },
		"an epoch near the end":    func(r *Record) { r.Epoch = 1<<62 + 1 },
		"a negative timeout":       func(r *Record) { r.Timeout = -1 },
		"a timeout over a year":    func(r *Record) { r.Timeout = MaxTimeout + 1 },
		"negative time left":       func(r *Record) { r.Left = -1 },
		"more left than it began":  func(r *Record) { r.Left = 1 << 62 },
		"cookie 0":                 func(r *Record) { r.Cookie = 0 },
		"a negative cookie":        func(r *Record) { r.Cookie = -5 },
		"a negative cookie's base": func(r *Record) { r.Floor = -1 },
	} {
		r := good
		if spoil(&r); r.Check() == nil {
			t.Errorf("a record with %s was taken for good: %+v", name, r)
		}
	}
}
