package journal

import (
	"cmp"
	"maps"
	"slices"
)

// A value that comes to stand under another key is two changes, and a crash may leave any of those that were not forced
// yet. So the old key is changed when the new one is on disk, in a later round: at no time is the value under neither.

// later is the changes that wait for others, the newest of each key. Journal.mu guards it.
type later struct {
	changes map[string]waits
	order   []string // of their keys, by what they wait for; some are not waited for any more
}

// waits is a change that is made when another is on disk.
type waits struct {
	change
	after Mark
}

// SetAfter is Set when the change of the mark is on disk; until then the key's old value stands there. Any other change of
// the key meanwhile is made instead.
func (j *Journal) SetAfter(m Mark, key string, head, body []byte) {
	j.after(m, key, change{head: head, body: body})
}

// DeleteAfter is Delete when the change of the mark is on disk, unless the key is changed before.
func (j *Journal) DeleteAfter(m Mark, key string) { j.after(m, key, change{deleted: true}) }

func (j *Journal) after(m Mark, key string, c change) {
	j.mu.Lock()
	if m == never || uint64(m) <= j.written || j.closing.Load() {
		j.mu.Unlock()
		j.change(key, c)
		return
	}
	defer j.mu.Unlock()
	if j.later.changes == nil {
		j.later.changes = map[string]waits{}
	}
	j.later.changes[key] = waits{c, m}
	j.laters.Store(int64(len(j.later.changes)))
	j.later.order = append(j.later.order, key)
	if len(j.later.order) > 2*len(j.later.changes)+64 {
		j.later.shorten()
	}
}

// shorten keeps what is not waited for any more from growing while the disk takes nothing.
func (l *later) shorten() {
	l.order = slices.SortedFunc(maps.Keys(l.changes), func(a, b string) int { return cmp.Compare(l.changes[a].after, l.changes[b].after) })
}

// forget lets go what waits for a key.
func (l *later) forget(key string) {
	if len(l.changes) > 0 {
		delete(l.changes, key)
	}
}

// ripe moves what waits no longer to what is written next. j.mu is held.
func (j *Journal) ripe() {
	l := &j.later
	n := 0
	for ; n < len(l.order); n++ {
		key := l.order[n]
		x, ok := l.changes[key]
		if !ok {
			continue
		}
		if uint64(x.after) > j.written {
			break
		}
		delete(l.changes, key)
		j.gather(key, x.change, false)
	}
	if l.order = l.order[n:]; len(l.order) == 0 {
		*l = later{}
	}
	// Only now: who finds none does not look, and changes what was moved.
	j.laters.Store(int64(len(l.changes)))
}
