package main

import (
	"fmt"
	"os"

	"github.com/dustin/go-humanize"
)

// checkMachine looks whether the system gives what the settings need.
func checkMachine(s *settings, r *runningSidecar) []finding {
	var m machine
	if r != nil && r.told != nil {
		m = r.told.Machine // of its account, which may have other limits
	} else {
		var err error
		if m, err = thisMachine(); err != nil {
			return []finding{warning("what the system gives cannot be found out: "+err.Error(), "")}
		}
	}
	return judgeMachine(s, m)
}

// besides is how many files a sidecar may have open besides the connections of web servers: listeners, the journal, the
// log, and who asks for metrics.
const besides = 200

func judgeMachine(s *settings, m machine) (all []finding) {
	if need := uint64(s.MaxConns) + besides; m.Files > 0 && m.Files < need {
		all = append(all, warning(fmt.Sprintf("the system allows %s open files, and PEERSTATE_MAX_CONNS is %s: connections beyond that fail",
			humanize.Comma(int64(m.Files)), humanize.Comma(int64(s.MaxConns))),
			fmt.Sprintf("allow %d: LimitNOFILE=%d in the systemd unit, ulimit -n %d in a shell; or set PEERSTATE_MAX_CONNS to what your web servers use", need, need, need)))
	} else {
		all = append(all, good("%s connections of web servers are within the limit on open files", humanize.Comma(int64(s.MaxConns))))
	}
	if s.CertDir == "" {
		return all
	}
	if m.Receive < wantedBuffer || m.Send < wantedBuffer {
		all = append(all, warning(fmt.Sprintf("the system gives a UDP socket a buffer of %s to receive and %s to send, and QUIC wants %s: in bursts packets are lost, and sent again",
			humanize.IBytes(uint64(m.Receive)), humanize.IBytes(uint64(m.Send)), humanize.IBytes(wantedBuffer)), largerBuffers))
	} else {
		all = append(all, good("the buffers of UDP sockets are large enough"))
	}
	return all
}

// A journal takes up to three times what the sessions do (store/journal).
const journalFactor = 3

// littleSpace is where a disk is all but full, and ampleSpace is what a journal of an unknown size should find.
const (
	littleSpace = 64 << 20
	ampleSpace  = 1 << 30
)

// checkSpace looks whether the disk has room for the journal.
func checkSpace(s *settings, r *runningSidecar) []finding {
	dir := existing(s.DataDir, func(path string) bool { _, err := os.Stat(path); return err == nil })
	free, err := diskFree(dir)
	if err != nil {
		return []finding{warning(fmt.Sprintf("how much room is left in %s cannot be found out: %v", dir, err), "")}
	}
	want := uint64(ampleSpace)
	if r != nil && r.told != nil {
		want = max(want, journalFactor*uint64(r.told.Sessions))
	}
	return []finding{judgeSpace(s.DataDir, free, want)}
}

func judgeSpace(dir string, free, want uint64) finding {
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
