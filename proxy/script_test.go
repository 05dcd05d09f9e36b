package proxy

import (
	"bytes"
	"io"
	"net"
	"time"
)

// script is a connection without a network: it hands out in, in pieces of at most chunk bytes if that is
// not 0, ends there or begins again, and collects what is written.
type script struct {
	in     []byte
	chunk  int
	repeat bool
	out    bytes.Buffer
	forget bool // drop what is written

	at     int
	closed bool
}

func (s *script) Read(p []byte) (int, error) {
	if s.at == len(s.in) {
		if !s.repeat || len(s.in) == 0 {
			return 0, io.EOF
		}
		s.at = 0
	}
	next := s.in[s.at:]
	if s.chunk > 0 {
		next = next[:min(s.chunk, len(next))]
	}
	n := copy(p, next)
	s.at += n
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	if s.forget {
		return len(p), nil
	}
	return s.out.Write(p)
}

func (s *script) Close() error {
	s.closed = true
	return nil
}

func (s *script) LocalAddr() net.Addr              { return nil }
func (s *script) RemoteAddr() net.Addr             { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
