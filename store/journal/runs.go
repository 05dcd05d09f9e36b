package journal

import (
	"crypto/rand"
	"slices"
	"strconv"
)

// runsFile has the number of the run that opened the directory last, and its checksum.
const runsFile = "runs"

// nextRun gives this run its number, one more than the last run's. If nobody knows that, it is a random one.
func (l *loading) nextRun(names []string) (n uint64, err error) {
	if slices.Contains(names, runsFile) {
		data, ok, err := l.read(runsFile, nil)
		if err != nil {
			return 0, err
		}
		if n, known := decodeRuns(data); known {
			return n + 1, nil
		}
		if ok {
			l.log.Error("the file that has the number of the last run is damaged; runs are numbered anew", "file", runsFile)
		}
	}
	var b [2]byte
	rand.Read(b[:]) // never fails
	return uint64(b[0])<<8 | uint64(b[1]), nil
}

// count forces the number of this run to disk.
func (l *loading) count(run uint64) {
	err := l.disk.write(runsFile, encodeRuns(run))
	if err == nil {
		err = l.disk.sync()
	}
	if err != nil {
		l.log.Error("the number of this run does not get to disk, so the next run may have the same: should this one crash before what it changes does, "+
			"a page may be taken for another one that had the same session locked", "error", err)
	}
}

func encodeRuns(n uint64) []byte { return sealed(strconv.AppendUint(nil, n, 10)) }

// decodeRuns is the reverse; false: it is damaged.
func decodeRuns(data []byte) (n uint64, ok bool) {
	line, ok := unsealed(data)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(line, 10, 64)
	return n, err == nil
}
