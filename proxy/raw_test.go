package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"
	"sync"
)

// rawServer is the practical limit that the real one is measured against: the same framing, one
// map with a mutex, and nothing else: no locks, no expiry, no checks, no limits.
type rawServer struct {
	mu       sync.Mutex
	sessions map[string][]byte
}

func serveRaw(l net.Listener) {
	s := &rawServer{sessions: make(map[string][]byte)}
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		go s.serve(nc)
	}
}

const rawHead = "HTTP/1.1 200 OK\r\nX-AspNet-Version: 4.0.30319\r\n"

func (s *rawServer) serve(nc net.Conn) {
	defer nc.Close()
	in := bufio.NewReader(nc)
	var key, out []byte
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		put := line[0] == 'P'
		i, j := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
		key = append(key[:0], line[i+1:j]...)
		length, acquire := 0, false
		for {
			line, err = in.ReadSlice('\n')
			if err != nil {
				return
			}
			line = bytes.TrimRight(line, "\r\n")
			if len(line) == 0 {
				break
			}
			name, value, _ := bytes.Cut(line, []byte(":"))
			switch {
			case bytes.EqualFold(name, []byte("Content-Length")):
				for _, c := range bytes.TrimSpace(value) {
					length = 10*length + int(c-'0')
				}
			case bytes.EqualFold(name, []byte("Exclusive")):
				acquire = bytes.EqualFold(bytes.TrimSpace(value), []byte("acquire"))
			}
		}
		out = append(out[:0], rawHead...)
		if put {
			body := make([]byte, length)
			if _, err := io.ReadFull(in, body); err != nil {
				return
			}
			s.mu.Lock()
			if _, ok := s.sessions[string(key)]; ok {
				s.sessions[string(key)] = body
			} else {
				s.sessions[string(bytes.Clone(key))] = body
			}
			s.mu.Unlock()
			out = append(out, "Cache-Control: private\r\nContent-Length: 0\r\n\r\n"...)
		} else {
			s.mu.Lock()
			body := s.sessions[string(key)]
			s.mu.Unlock()
			if acquire {
				out = append(out, "LockCookie: 2\r\n"...)
			}
			out = append(out, "Timeout: 20\r\nCache-Control: private\r\nContent-Length: "...)
			out = strconv.AppendInt(out, int64(len(body)), 10)
			out = append(out, "\r\n\r\n"...)
			out = append(out, body...)
		}
		if _, err := nc.Write(out); err != nil {
			return
		}
	}
}
