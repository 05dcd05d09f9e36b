package transport

import (
	"errors"
	"fmt"

	"github.com/quic-go/quic-go"
)

// Nodes of two versions work together, so that a farm can be upgraded, or taken back, one node after the other. The two
// sides of a hello use the higher version of the protocol that both know; a node further on says in its list of links what
// it knows.
//
// What a later version adds must harm no earlier one:
//
//   - A field with a new number in a frame that there is: at any time. Who does not know it skips it, so it may only say
//     what the reader can do without.
//   - A kind of frame that a stream begins with: give it a line in [kind.since], and [Mesh.converse] sends it only to a
//     node that knows it; to others it gives errNotSupported. Version 1 took such a frame for an attack, and closed the link.
//   - A new value of anything else (a kind of reply, of parcel, of settlement): only to a node of a version that knows it.
//
// Since version 2 a kind that is not known is refused with streamNotKnown at the beginning of a stream, and passed over on
// the control stream. It costs neither side the link, and who asked takes it for errNotSupported.
const (
	minVersion = 1
	maxVersion = 2
)

// errNotSupported is the error of asking a node for something that its version does not know.
var errNotSupported = errors.New("its version of peerstate does not know this yet; upgrade it")

// since is the version of the protocol that has brought a kind of frame.
func (k kind) since() int {
	if k > kindConfirmed {
		return 2
	}
	return 1
}

// known tells whether this version knows the kind, wherever it may stand.
func (k kind) known() bool { return k > 0 && k < kindEnd }

// speaks is the highest version of the protocol that both this node and the one at the link's other end know. A node
// that is reached through others says it in its list of links; while that came through one of version 1, it seems to
// be of that version, too.
func (l *link) speaks() int {
	if !l.far {
		return max(l.version, minVersion)
	}
	m := l.mesh
	m.mu.Lock()
	defer m.mu.Unlock()
	if ll := m.atlas.lists[l.node.name]; ll != nil && ll.Instance == l.instance {
		return min(max(ll.Speaks, minVersion), maxVersion)
	}
	return minVersion
}

// notKnown refuses a stream that begins with something of a later version. It counts as a question, so that nobody
// gains by it.
func (s *stream) notKnown(what string) error {
	if paid := s.link.quota; !paid.allow(paid.questions, refusedQuestion) {
		return errTooMuch
	}
	s.link.mesh.log.Debug("a peer asks for something that only a later version knows", "peer", s.link.node.name, "what", what)
	s.CancelRead(streamNotKnown)
	s.CancelWrite(streamNotKnown)
	return errDone
}

// unsupported makes errNotSupported of the error of a stream that was refused by notKnown.
func unsupported(err error) error {
	if s, ok := errors.AsType[*quic.StreamError](err); ok && s.Remote && s.ErrorCode == streamNotKnown {
		return fmt.Errorf("%w (%w)", errNotSupported, err)
	}
	return err
}
