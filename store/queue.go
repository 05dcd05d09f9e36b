package store

// queue is items in the order in which they came. It is made of blocks, so that a long one is never copied to make room
// while a shard is locked: when a million sessions expire, a million keepers' backups are to be forgotten.
type queue struct {
	blocks [][]item // none is empty
	begin  int      // of the first block: what is before it has gone
	size   int
}

const (
	leastBlock = 8
	mostBlock  = 512
)

func (q *queue) push(it item) {
	last := len(q.blocks) - 1
	if last < 0 || len(q.blocks[last]) == cap(q.blocks[last]) {
		room := leastBlock
		if last >= 0 {
			room = min(2*cap(q.blocks[last]), mostBlock)
		}
		q.blocks = append(q.blocks, make([]item, 0, room))
		last++
	}
	q.blocks[last] = append(q.blocks[last], it)
	q.size++
}

// take takes up to n items, at least one if there is any.
func (q *queue) take(n int) []item {
	if q.size == 0 || n < 1 {
		return nil
	}
	first := q.blocks[0]
	end := min(q.begin+n, len(first))
	out := first[q.begin:end:end]
	q.size -= len(out)
	if q.begin = end; end == len(first) {
		q.blocks[0] = nil
		q.blocks, q.begin = q.blocks[1:], 0
		if q.size == 0 {
			q.blocks = nil // or the array of a long queue would be kept
		}
	}
	return out
}

// all takes everything.
func (q *queue) all() (out []item) {
	out = make([]item, 0, q.size)
	for q.size > 0 {
		out = append(out, q.take(mostBlock)...)
	}
	return out
}

// first gives some of those that came first.
func (q *queue) first() []item {
	if q.size == 0 {
		return nil
	}
	return q.blocks[0][q.begin:]
}
