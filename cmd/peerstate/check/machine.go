package check

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"

	"peerstate/cmd/peerstate/machine"
	"peerstate/cmd/peerstate/settings"
	"peerstate/store"
)

// checkMachine looks whether the system gives what the settings need.
func checkMachine(s *settings.Settings, r *runningSidecar) []Finding {
	var m machine.Limits
	if r != nil && r.told != nil {
		m = r.told.Machine // of its account, which may have other limits
	} else {
		var err error
		if m, err = machine.Measure(); err != nil {
			return []Finding{warning("what the system gives cannot be found out: "+err.Error(), "")}
		}
	}
	return judgeMachine(s, m)
}

// besides is how many files a sidecar may have open besides the connections of web servers: listeners, the journal, the
// log, and who asks for metrics.
const besides = 200

func judgeMachine(s *settings.Settings, m machine.Limits) (all []Finding) {
	if need := uint64(s.MaxConns) + besides; m.Files > 0 && m.Files < need {
		all = append(all, warning(fmt.Sprintf("the system allows %s open files, and PEERSTATE_MAX_CONNS is %s: connections beyond that fail",
			humanize.Comma(int64(m.Files)), humanize.Comma(int64(s.MaxConns))),
			fmt.Sprintf("allow %d: LimitNOFILE=%d in the systemd unit, ulimit -n %d in a shell; or set PEERSTATE_MAX_CONNS to what your web servers use", need, need, need)))
	} else {
		all = append(all, good("%s connections of web servers are within the limit on open files", humanize.Comma(int64(s.MaxConns))))
	}
	all = append(all, judgeMemory(s, m.Memory))
	if s.CertDir == "" {
		return all
	}
	if m.Receive < machine.WantedBuffer || m.Send < machine.WantedBuffer {
		all = append(all, warning(fmt.Sprintf("the system gives a UDP socket a buffer of %s to receive and %s to send, and QUIC wants %s: in bursts packets are lost, and sent again",
			humanize.IBytes(uint64(m.Receive)), humanize.IBytes(uint64(m.Send)), humanize.IBytes(machine.WantedBuffer)), machine.LargerBuffers))
	} else {
		all = append(all, good("the buffers of UDP sockets are large enough"))
	}
	return all
}

// judgeMemory compares the limit for sessions with what the machine has.
func judgeMemory(s *settings.Settings, has uint64) Finding {
	here := humanize.IBytes(has)
	if s.MaxMemory == 0 {
		return good("PEERSTATE_MAX_MEMORY sets no limit, and this machine has %s of memory", here)
	}
	whole := uint64(store.WholeMemory(int64(s.MaxMemory)))
	what := fmt.Sprintf("with PEERSTATE_MAX_MEMORY=%s the whole process takes up to %s, and this machine has %s", s.Value("MaxMemory"), humanize.IBytes(whole), here)
	const mend = "set PEERSTATE_MAX_MEMORY lower, so that the system does not end the process before it refuses a session"
	switch {
	case whole > has:
		return fault(what, mend)
	case whole > has/4*3:
		return warning(what+", for the web server too", mend)
	}
	return good("%s", what)
}

// A journal takes up to three times what the sessions do (store/journal).
const journalFactor = 3

// littleSpace is where a disk is all but full, and ampleSpace is what a journal of an unknown size should find.
const (
	littleSpace = 64 << 20
	ampleSpace  = 1 << 30
)

// checkSpace looks whether the disk has room for the journal.
func checkSpace(s *settings.Settings, r *runningSidecar) []Finding {
	dir := existing(s.DataDir, func(path string) bool { _, err := os.Stat(path); return err == nil })
	free, err := machine.DiskFree(dir)
	if err != nil {
		return []Finding{warning(fmt.Sprintf("how much room is left in %s cannot be found out: %v", dir, err), "")}
	}
	want := uint64(ampleSpace)
	if r != nil && r.told != nil {
		want = max(want, journalFactor*uint64(r.told.Sessions))
	}
	return []Finding{judgeSpace(s.DataDir, free, want)}
}

func judgeSpace(dir string, free, want uint64) Finding {
	const mend = "make room, or set PEERSTATE_DATA_DIR to a larger disk; when it is full sessions are served on, and a crash loses them"
	switch {
	case free < littleSpace:
		return fault(fmt.Sprintf("PEERSTATE_DATA_DIR: the disk of %s has only %s left", dir, humanize.IBytes(free)), mend)
	case free < want:
		return warning(fmt.Sprintf("PEERSTATE_DATA_DIR: the disk of %s has %s left, and the journal may come to take %s (up to three times what the sessions are in memory)",
			dir, humanize.IBytes(free), humanize.IBytes(want)), mend)
	}
	return good("the disk of %s has %s left", dir, humanize.IBytes(free))
}

// existing is the nearest directory above path that exists, or path itself.
func existing(path string, exists func(string) bool) string {
	for !exists(path) {
		up := filepath.Dir(path)
		if up == path {
			break
		}
		path = up
	}
	return path
}
