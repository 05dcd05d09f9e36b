package proxy

import (
	"bytes"
	"log/slog"
	"sync"
	"time"
)

// refusal says why something was not carried out. Each has a line in the log, with what to do.
type refusal uint8

const (
	sound refusal = iota // nothing is wrong

	// Not our protocol.
	tlsHello
	http2
	browser
	noRequest
	controlBytes

	// Bytes that do not make a request; where the next one begins cannot be known.
	bareLF
	longLine
	manyHeaders
	badHeader
	badEscape
	noTarget
	badLength
	noLength
	transferEncoding
	largeBody

	// Sound requests that cannot be carried out.
	otherMethod
	badTimeout
	badFlags

	// Not the client's fault.
	tooManyConns
	acceptFailed

	refusals = iota
)

// texts are what the log says of each refusal: what it was, and what to do.
var texts = [refusals]struct{ what, advice string }{
	tlsHello: {"a TLS handshake", "the state protocol is plain text on the web server's own machine; " +
		"links between nodes use PEERSTATE_PEER_LISTEN"},
	http2: {"an HTTP/2 request", "only web servers with mode=\"StateServer\" belong here"},
	browser: {"a browser's request", "open the address in PEERSTATE_ADMIN_LISTEN instead; " +
		"if nobody did, a page in a browser on this machine tried to reach the sessions"},
	noRequest:        {"a line that is no HTTP/1.1 request", "find out which program connects to this port"},
	controlBytes:     {"binary data", "find out which program connects to this port"},
	bareLF:           {"a line that ends without a carriage return", "find out which program connects to this port"},
	longLine:         {"a line of more than 8 KiB", "shorten the application's path, or find out which program connects to this port"},
	manyHeaders:      {"a request with more than 64 headers", "find out which program connects to this port"},
	badHeader:        {"a header without a name", "find out which program connects to this port"},
	badEscape:        {"a target with a wrong percent escape", "find out which program connects to this port"},
	noTarget:         {"a request for no session, as browsers and health checks send it", "health checks belong to PEERSTATE_ADMIN_LISTEN, /healthz and /readyz"},
	badLength:        {"a wrong or doubled Content-Length", "find out which program connects to this port"},
	noLength:         {"a PUT without Content-Length", "find out which program connects to this port"},
	transferEncoding: {"a request with Transfer-Encoding", "find out which program connects to this port; a web server does not send it"},
	largeBody:        {"a session larger than PEERSTATE_MAX_BODY", "raise PEERSTATE_MAX_BODY, or keep less in the session; its page has shown an error"},
	otherMethod:      {"a method other than GET, PUT, DELETE and HEAD", "find out which program connects to this port"},
	badTimeout:       {"a session timeout outside 0 to 525600 minutes", "mend the timeout in the application's sessionState element"},
	badFlags:         {"ExtraFlags that are no number", "find out which program connects to this port"},
	tooManyConns:     {"a connection above PEERSTATE_MAX_CONNS", "raise PEERSTATE_MAX_CONNS, or find out who keeps so many open"},
	acceptFailed:     {"a connection that the system could not hand over", "raise the limit on open files"},
}

// stranger looks whether the first bytes of a refused head are those of a protocol that can be named.
func stranger(head []byte, why refusal) refusal {
	switch {
	case bytes.HasPrefix(head, []byte{0x16, 0x03}):
		return tlsHello
	case bytes.HasPrefix(head, []byte("PRI * HTTP/2.0")):
		return http2
	}
	return why
}

// refusalEvery is how often the log repeats one kind of refusal at most.
const refusalEvery = time.Minute

// refusalLog writes refusals to the log, each kind once a minute with the number of those left out.
type refusalLog struct {
	mu      sync.Mutex
	next    [refusals]time.Duration // not before then
	skipped [refusals]int
}

// report logs a refusal, or counts it if one of its kind was logged within the last minute. err may be nil.
func (l *refusalLog) report(s *Server, why refusal, from string, err error) {
	now := s.now()
	l.mu.Lock()
	if now < l.next[why] {
		l.skipped[why]++
		l.mu.Unlock()
		return
	}
	skipped := l.skipped[why]
	l.next[why], l.skipped[why] = now+refusalEvery, 0
	l.mu.Unlock()

	fields := []any{slog.String("what", texts[why].what), slog.String("do", texts[why].advice)}
	if from != "" {
		fields = append(fields, slog.String("from", from))
	}
	if skipped > 0 {
		fields = append(fields, slog.Int("more_before", skipped))
	}
	if err != nil {
		fields = append(fields, slog.Any("error", err))
	}
	s.log.Warn("refused on the state port", fields...)
}
