package transport

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"peerstate/certs"
)

// What the farm's issuer says to all nodes is a document (package certs): numbered and signed, and so passed on by
// anybody. Two nodes that link exchange the newer of theirs before the link is used. A new one goes over all links at
// once, and whoever takes it in passes it on; pings carry its number, so that one that was lost is sent again.

// document announces one, whose bytes follow; of size 0: there is none.
type document struct {
	Size int64 `cbor:"1,keyasint"`
}

// want asks for the document in force. In place of a hello it also says what that says of documents.
type want struct {
	Number uint64 `cbor:"1,keyasint,omitempty"` // as in a hello
	Issuer bool   `cbor:"2,keyasint,omitempty"` // as in a hello
}

// offers is what is known of the document of the node at the other end of a link.
type offers struct {
	its    atomic.Uint64 // its number, by its own word
	taking atomic.Bool   // one is just coming from it
	// under Mesh.mu:
	sending bool          // ours is on its way to it
	offered uint64        // the number of the one that was sent last
	again   time.Time     // when that one may be sent again
	pause   time.Duration // between that and the time before
}

// Who does not take a document in is sent it again after pauses from offerSoon to offerLate.
const (
	offerSoon = time.Second
	offerLate = time.Minute
)

// Publish takes in a document that this farm's issuer has made, and passes it on to all nodes. certs.ErrOldDocument: a
// newer one is in force. With another error the document may be in force all the same, but not after a
// restart (see certs.Accept).
func (m *Mesh) Publish(d *certs.Document) error { return m.takeDocument(d.Bytes(), nil) }

// takeDocument takes a document in that came over a link, or is this node's own (nil), and passes it on. errFrame: it
// cannot be read.
func (m *Mesh) takeDocument(data []byte, from *link) error {
	d, err := certs.ParseDocument(data)
	if err != nil {
		m.metrics.documents.WithLabelValues("refused").Inc()
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	if from != nil {
		m.issuerLearns(d, from.peer.Node)
	}
	m.changing.Lock()
	defer m.changing.Unlock()
	if d.Number <= m.Certs().DocumentNumber() {
		return certs.ErrOldDocument
	}
	next, err := certs.Accept(m.config.CertDir, m.Certs(), data, time.Now())
	if next == nil {
		return m.refuseDocument(d, from, err)
	}
	m.metrics.documents.WithLabelValues("accepted").Inc()
	m.unwritten.Store(err != nil)
	if err != nil {
		m.log.Error("a document of the farm's issuer cannot be written to disk; it is tried again", "error", err)
	}
	m.log.Info("a document of the farm's issuer is in force", "number", d.Number, "from", nameOf(from, m.me), "revoked", len(d.RevokedNodes()),
		"trusted", len(d.Authorities()), "stage", string(d.Rotation.Stage))
	_, putErr := m.putCerts(next, from)
	return errors.Join(err, putErr)
}

func nameOf(l *link, me string) string {
	if l == nil {
		return me
	}
	return l.peer.Node
}

// refuseDocument says why a document is not taken in.
func (m *Mesh) refuseDocument(d *certs.Document, from *link, err error) error {
	if errors.Is(err, certs.ErrOldDocument) {
		return err
	}
	m.metrics.documents.WithLabelValues("refused").Inc()
	peer := nameOf(from, m.me)
	if r, ok := certs.RefusalOf(err); ok && r.Reason == certs.Revoked {
		m.castOut(fmt.Sprintf("document %d of the farm's issuer, which came from %s, says so", d.Number, peer))
	} else if m.repeats.first("document from " + peer) {
		m.log.Error("a document of the farm's issuer is not taken in, nor passed on", "from", peer, "number", d.Number, "reason", err)
	}
	return err
}

// writeAgain tries to write the document in force to disk, if that has failed.
func (m *Mesh) writeAgain() {
	if !m.unwritten.Load() {
		return
	}
	m.changing.Lock()
	defer m.changing.Unlock()
	next, err := certs.Reload(m.config.CertDir, m.Certs(), time.Now())
	if err != nil {
		m.log.Debug("a document of the farm's issuer cannot be written to disk", "error", err)
		return
	}
	m.unwritten.Store(false)
	if _, err := m.putCerts(next, nil); err != nil {
		m.log.Error("the certificates on the disk are not put in force", "error", err)
	}
}

// has notes which document the other side has, and sends it a newer one.
func (l *link) has(number uint64) {
	l.its.Store(number)
	if number < l.mesh.Certs().DocumentNumber() {
		l.mesh.offer(l)
	}
}

// offerUnlessFrom offers the document in force over a link, unless the other side has it from the same node as this
// one: then the next pings show whether it does.
func (m *Mesh) offerUnlessFrom(l, from *link) {
	if from != nil {
		m.mu.Lock()
		heard := l.node.name == from.peer.Node || m.atlas.both(from.peer.Node, l.node.name)
		m.mu.Unlock()
		if heard {
			return
		}
	}
	m.offer(l)
}

// offer sends the document in force over a link whose other side has an older one. There is one on its way at a time.
func (m *Mesh) offer(l *link) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.certs.Load().Document()
	switch now := time.Now(); {
	case m.closed || d == nil || l.sending || d.Number <= l.its.Load():
		return
	case d.Number != l.offered:
		l.offered, l.pause = d.Number, offerSoon
	case now.Before(l.again):
		return
	default:
		l.pause = min(2*l.pause, offerLate)
	}
	l.again, l.sending = time.Now().Add(l.pause), true
	m.wg.Go(func() {
		if err := l.sendDocument(d); err != nil {
			m.log.Debug("a document of the farm's issuer could not be sent", "peer", l.node.name, "number", d.Number, "error", err)
		}
		m.mu.Lock()
		l.sending = false
		newer := m.certs.Load().DocumentNumber() > d.Number
		m.mu.Unlock()
		if newer {
			m.offer(l)
		}
	})
}

// sendDocument sends a document on a stream of its own.
func (l *link) sendDocument(d *certs.Document) error {
	s, err := l.open(l.mesh.ctx)
	if err != nil {
		return err
	}
	defer s.end()
	if err := s.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return err
	}
	if err := writeDocument(s, d); err != nil {
		return err
	}
	l.mesh.finish(l, s)
	return nil
}

// writeDocument writes a document, which may be nil.
func writeDocument(w io.Writer, d *certs.Document) error {
	var data []byte
	if d != nil {
		data = d.Bytes()
	}
	b, err := appendFrame(make([]byte, 0, 16+len(data)), kindDocument, document{Size: int64(len(data))})
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, data...))
	return err
}

// readDocument reads the document that a header announces; nil: there is none.
func readDocument(r io.Reader, header []byte) ([]byte, error) {
	var h document
	if err := decode(header, &h); err != nil {
		return nil, err
	}
	if h.Size < 0 || h.Size > certs.MaxDocument {
		return nil, fmt.Errorf("%w: a document of %d bytes", errFrame, h.Size)
	}
	if h.Size == 0 {
		return nil, nil
	}
	return readBody(r, h.Size, nil)
}

// itsDocument reads the document that the other side was asked for; nil: it has none.
func itsDocument(r io.Reader) ([]byte, error) {
	k, header, err := readFrame(r)
	if err != nil {
		return nil, fmt.Errorf("reading a document: %w", err)
	}
	if k != kindDocument {
		return nil, fmt.Errorf("%w: kind %d instead of a document", errFrame, k)
	}
	return readDocument(r, header)
}

// serveDocument takes a document in that the other side has sent by itself.
func (l *link) serveDocument(s *stream, header []byte) error {
	if l.far {
		return fmt.Errorf("%w: a document that came through others", errFrame)
	}
	if l.taking.Swap(true) {
		return fmt.Errorf("%s sends several documents at once", l.node.name)
	}
	defer l.taking.Store(false)
	if !l.quota.allow(l.quota.documents, refusedDocument) {
		return errTooMuch // it is sent again
	}
	data, err := readDocument(s, header)
	if err != nil {
		return err
	}
	return l.takeIts(data)
}

// takeIts is takeDocument where a document that is only not taken in is no reason to end anything.
func (l *link) takeIts(data []byte) error {
	if data == nil {
		return nil
	}
	if err := l.mesh.takeDocument(data, l); errors.Is(err, errFrame) {
		return err
	}
	return nil // it has been logged
}

// serveWant sends the document in force.
func (l *link) serveWant(s *stream) error {
	if paid := s.link.quota; !paid.allow(paid.documents, refusedDocument) {
		return errTooMuch
	}
	return writeDocument(s, l.mesh.Certs().Document())
}

// exchange sees that this side of a connection that came in, and the dialler, have the newer document of the two, and
// that the issuer among them has heard the other's, which it may be that nobody else has.
func (m *Mesh) exchange(l *link, control io.ReadWriter, h *hello) error {
	mine := m.Certs()
	if number := mine.DocumentNumber(); h.Issuer && number > 0 && number < h.Number {
		if err := writeDocument(control, mine.Document()); err != nil {
			return err
		}
	}
	if number := mine.DocumentNumber(); number < h.Number || m.config.Issuer != nil && number > h.Number && h.Number > 0 {
		if err := writeFrame(control, kindWant, want{}); err != nil {
			return err
		}
		data, err := itsDocument(control)
		if err == nil {
			err = l.takeIts(data)
		}
		if err != nil {
			return err
		}
	}
	l.its.Store(h.Number)
	if mine = m.Certs(); mine.DocumentNumber() > h.Number {
		if err := writeDocument(control, mine.Document()); err != nil {
			return err
		}
		l.its.Store(mine.DocumentNumber())
	}
	m.consulted(l)
	return nil
}

// exchanged does the same as the dialler, and gives the answer to its hello.
func (m *Mesh) exchanged(l *link, control io.ReadWriter) (kind, []byte, error) {
	for range 3 {
		k, header, err := readFrame(control)
		if err != nil {
			return 0, nil, err
		}
		switch k {
		case kindWant:
			err = writeDocument(control, m.Certs().Document())
		case kindDocument:
			var data []byte
			if data, err = readDocument(control, header); err == nil {
				err = l.takeIts(data)
			}
		default:
			m.consulted(l)
			return k, header, nil
		}
		if err != nil {
			return 0, nil, err
		}
	}
	return 0, nil, fmt.Errorf("%w: a third document before the answer to a hello", errFrame)
}
