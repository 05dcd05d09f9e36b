package store

// A process can stand still for a while: a machine that is suspended, or a debugger. Meanwhile the other
// nodes have given it up, and hold its sessions. When it goes on, the first request could come before it
// has heard of that. So what it holds is served again only when it has been compared with what they hold.

// Sure tells whether this process has been running all the time, as far as it knows. If it is not, its sessions
// are served to nobody, and it answers that it cannot know; until Compared.
func (st *Store) Sure() bool { return st.sureAt(st.clock.now()) }

func (st *Store) sureAt(now instant) bool {
	grace := int64(st.options.Grace)
	if st.farm == nil || grace == 0 {
		return true
	}
	if !st.unsure.Load() && now.mono-st.beat.Load() <= grace && now.wall-st.wallBeat.Load() <= grace {
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
