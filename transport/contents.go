package transport

import (
	"errors"
	"fmt"
	"io"
)

// errNoRoom says that there is no memory for a session that has come (PEERSTATE_MAX_MEMORY). All of it has been read, so
// the conversation can go on.
var errNoRoom = errors.New("there is no memory for the session")

// readContents reads the contents of a session, size bytes. What has come of them counts as this node's memory, and whoever
// gets them gives as much back (store.GiveBack) when the store has them or does not want them. arrived, which may be nil,
// is called whenever some came.
func (m *Mesh) readContents(r io.Reader, size int64, arrived func()) (b []byte, err error) {
	var counted int64
	defer func() {
		if err != nil {
			m.store.GiveBack(counted)
		}
	}()
	b, err = readGrowing(r, size, arrived, func(n int64) error {
		if !m.store.ReserveNow(n) {
			return errNoRoom
		}
		counted += n
		return nil
	})
	switch {
	case errors.Is(err, errNoRoom):
		if derr := drop(r, size-int64(len(b)), arrived); derr != nil {
			err = derr
		}
		return nil, err
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("%w: it ends in its body", errFrame)
	}
	return b, err
}

// drop reads n bytes that nobody wants.
func drop(r io.Reader, n int64, arrived func()) error {
	var buf [4 << 10]byte
	for n > 0 {
		got, err := r.Read(buf[:min(n, int64(len(buf)))])
		if n -= int64(got); got > 0 && arrived != nil {
			arrived()
		}
		switch {
		case n == 0:
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: it ends in its body", errFrame)
		case err != nil:
			return err
		}
	}
	return nil
}
