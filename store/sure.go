package store

import "time"

// A process can stand still for a while: a machine that is suspended, or a debugger. Meanwhile the other
// nodes have given it up, and hold its sessions. When it goes on, the first request could come before it
// has heard of that. So what it holds is served again only when it has been compared with what they hold.

// slack is how much longer than the grace time a process may stand still: links live for at least so long,
// and only then does the grace time begin for the others. It keeps a busy machine from being taken for one
// that stood still, as this is looked at once a second.
const slack = int64(3 * time.Second)

// Sure tells whether this process has been running all the time, as far as it knows. If it is not, its sessions
// are served to nobody, and it answers that it cannot know; until Compared.
func (st *Store) Sure() bool { return st.sureAt(st.clock.now()) }

func (st *Store) sureAt(now instant) bool {
	if st.grace == 0 {
		return true
	}
	if most := st.grace + slack; !st.unsure.Load() && now.mono-st.beat.Load() <= most && now.wall-st.wallBeat.Load() <= most {
		return true
	}
	if !st.unsure.Swap(true) {
		st.log.Warn("this process has stood still; its sessions are compared with the other nodes before they are served again")
	}
	return false
}

// Compared says that what is held here has been compared with all nodes that are up.
func (st *Store) Compared() {
	st.mark(st.clock.now())
	if st.unsure.Swap(false) {
		st.log.Info("the sessions have been compared with the other nodes; they are served again")
	}
}

// alive notes that the process is running. It is called every second.
func (st *Store) alive(now instant) {
	if st.sureAt(now) {
		st.mark(now)
	}
}

func (st *Store) mark(now instant) {
	st.beat.Store(now.mono)
	st.wallBeat.Store(now.wall)
}
