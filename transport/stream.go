package transport

import (
	"context"
	"fmt"

	"github.com/quic-go/quic-go"
)

// stream is one conversation on a link. Whoever has it calls end when it is over.
type stream struct {
	*quic.Stream
	link   *link
	closed bool
}

func (l *link) stream(s *quic.Stream) *stream {
	l.streams.Add(1)
	return &stream{Stream: s, link: l}
}

// open opens a stream, on the link that has replaced this one if one has.
func (l *link) open(ctx context.Context) (*stream, error) {
	if l.far {
		return l.openVia(ctx)
	}
	for {
		// It is counted before it is looked whether the link has been replaced: see retire.
		cur := l.latest()
		cur.streams.Add(1)
		if cur.next.Load() != nil {
			cur.streams.Add(-1)
			continue
		}
		s, err := cur.conn.OpenStreamSync(ctx)
		if err == nil {
			return &stream{Stream: s, link: cur}, nil
		}
		cur.streams.Add(-1)
		if ctx.Err() != nil || cur.next.Load() == nil {
			return nil, err
		}
	}
}

// openUntil is open for a conversation that is over when ctx is, which must have a deadline.
func (l *link) openUntil(ctx context.Context) (*stream, error) {
	s, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	end, _ := ctx.Deadline()
	if err := s.SetDeadline(end); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// Read and Write note that something moves, for retire.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	if n > 0 {
		s.link.moved.Add(1)
	}
	return n, err
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.Stream.Write(p)
	if n > 0 {
		s.link.moved.Add(1)
	}
	return n, err
}

// Close ends this side in good order: all that was written is delivered.
func (s *stream) Close() error {
	s.closed = true
	return s.Stream.Close()
}

// maxBulk bounds how many streams of one peer bring many sessions at a time. A node opens one for backups, and
// giveStreams when it stops; each has a buffer of some 64 KiB here, and one for backups may stay for days.
const maxBulk = 16

// enterBulk counts in a stream that brings many sessions; leave counts it out. An error: there are too many.
func (l *link) enterBulk() (leave func(), err error) {
	count := &l.bulk
	if l.far {
		count = &l.mesh.farBulk
	}
	leave = func() { count.Add(-1) }
	if count.Add(1) > maxBulk {
		leave()
		return nil, fmt.Errorf("%s has %d streams open already that bring sessions", l.node.name, maxBulk)
	}
	return leave, nil
}

// end gives up what is still open of the stream, or its slot would never be free again. A side that
// was closed must not be given up: that would take back what has not been delivered yet.
func (s *stream) end() {
	s.CancelRead(streamGivenUp) // without effect on a side that was read to its end
	if !s.closed {
		s.CancelWrite(streamGivenUp)
	}
	s.link.streams.Add(-1)
}
