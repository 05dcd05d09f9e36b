package journal

import "bytes"

// A value that comes to stand under another key is two changes, and a crash may leave any of those that were not forced
// yet. So the old key is changed when the new one is on disk, in a later round: at no time is the value under neither.

// later is the changes that wait for others, the newest of each key. Journal.mu guards it.
type later map[string]waits

// waits is a change that is made when another is on disk.
type waits struct {
	change
	after Mark
}

// SetAfter is Set when the change of the mark is on disk; until then the key's old value stands there. Any other change of
// the key meanwhile is made instead.
func (j *Journal) SetAfter(m Mark, key string, head, body []byte) {
	j.after(m, key, bytes.Clone(head), change{body: body})
}

// DeleteAfter is Delete when the change of the mark is on disk, unless the key is changed before.
func (j *Journal) DeleteAfter(m Mark, key string) { j.after(m, key, nil, change{deleted: true}) }

func (j *Journal) after(m Mark, key string, head []byte, c change) {
	j.mu.Lock()
	if m == never || uint64(m) <= j.written || j.closing.Load() {
		j.mu.Unlock()
		j.change(key, head, c)
		return
	}
	defer j.mu.Unlock()
	if j.later == nil {
		j.later = later{}
	}
	c.head = head
	j.later[key] = waits{c, m}
	j.laters.Store(int64(len(j.later)))
}

// ripe moves what waits no longer to what is written next. j.mu is held. All are looked at: they are in no order, since
// one that is changed again before its time waits for something later, and most wait for no more than two rounds.
func (j *Journal) ripe() {
	for key, x := range j.later {
		if uint64(x.after) <= j.written {
			delete(j.later, key)
			j.gather(key, x.head, x.change, false)
		}
	}
	if len(j.later) == 0 {
		j.later = nil // or one that had very many would be walked through by all that follow
	}
	// Only now: who finds none does not look, and changes what was moved.
	j.laters.Store(int64(len(j.later)))
}
