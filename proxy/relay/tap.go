package relay

import (
	"time"

	"peerstate/proxy"
	"peerstate/proxy/recording"
	"peerstate/proxy/wire"
)

// maxDump is how much of a body or of raw bytes is shown at most.
const maxDump = 64 << 10

// tap is what one direction's bytes go by. It is the Sink of its Splitter; conn.mu guards it.
type tap struct {
	conn  *conn
	edit  *Edit
	side  string // that the bytes come from
	other string
	split wire.Splitter

	out     []byte // to pass on, when headers are changed
	now     message
	begun   bool   // now is a message whose end has not come
	told    bool   // of now, which was answered before its end
	ignored bool   // nothing is understood any more
	part    []byte // of the body, for the recording
}

// message is what is told of one.
type message struct {
	head    wire.Head // as it is passed on
	kept    []byte    // the head for the recording: what the state server got, and what it said
	dropped []string  // header lines
	length  int64     // bytes of the body that have come
	dump    []byte    // the first of them
	answers asked     // of an answer: the request
	request proxy.Described
	cut     bool // its end has not come
}

// feed looks at bytes, and gives those to pass on, valid until the next call.
func (t *tap) feed(p []byte) []byte {
	if t.edit.nothing() {
		t.split.Feed(p, t)
		return p
	}
	t.out = t.out[:0]
	t.split.Feed(p, t)
	return t.out
}

// finish ends the direction, and gives what is left to pass on.
func (t *tap) finish() []byte {
	t.out = t.out[:0]
	t.split.Finish(t)
	t.tellUnfinished()
	if t.edit.nothing() {
		return nil // it was passed on when it came
	}
	return t.out
}

// Head implements wire.Sink.
func (t *tap) Head(h *wire.Head) bool {
	t.now, t.begun, t.told = message{}, true, false
	edited, dropped := t.edit.apply(nil, h.Bytes)
	t.out = append(t.out, edited...)
	// An edited head is one still: neither its first line nor its end has changed.
	t.now.head, _ = wire.NewHead(edited, t.split.Answers)
	t.now.kept, t.now.dropped = edited, dropped
	if t.split.Answers && !t.edit.nothing() {
		t.now.kept = append([]byte(nil), h.Bytes...)
	}
	if !t.split.Answers {
		t.now.request = proxy.Describe(h.Bytes)
		if !t.conn.ask(h) {
			t.lose()
			t.conn.back.lose()
		}
		return true
	}
	return t.answerHead(h)
}

// answerHead finds the request that is answered.
func (t *tap) answerHead(h *wire.Head) (body bool) {
	c := t.conn
	final := h.Status >= 200
	if final {
		c.there.split.Answered(&c.there)
	}
	if len(c.waiting) == 0 {
		return true
	}
	t.now.answers = c.waiting[0]
	if final {
		if len(c.waiting) == 1 {
			c.there.tellUnfinished() // it is this one
		}
		c.waiting = c.waiting[1:]
	}
	return t.now.answers.method != "HEAD"
}

// Body implements wire.Sink.
func (t *tap) Body(p []byte) {
	t.out = t.passOn(p)
	t.now.length += int64(len(p))
	if room := maxDump - len(t.now.dump); room > 0 && t.conn.relay.config.Screen.wantsBodies() {
		t.now.dump = append(t.now.dump, p[:min(room, len(p))]...)
	}
	if record := t.conn.relay.config.Record; record == nil || !record.Bodies() || t.told {
		return
	}
	for len(p) > 0 {
		n := min(len(p), recording.PartSize-len(t.part))
		t.part = append(t.part, p[:n]...)
		if p = p[n:]; len(p) > 0 {
			t.conn.relay.record(recording.Event{Conn: t.conn.number, What: recording.Part, From: t.side,
				Length: int64(len(t.part)), Body: t.part})
			t.part = t.part[:0]
		}
	}
}

// passOn adds bytes to those to pass on, if that is not done as they come.
func (t *tap) passOn(p []byte) []byte {
	if t.edit.nothing() {
		return nil
	}
	return append(t.out, p...)
}

// End implements wire.Sink.
func (t *tap) End() {
	t.begun = false
	if !t.told {
		t.tell()
	}
	if t.split.Answers && t.now.head.Status >= 200 {
		t.conn.counts.answers++
	}
}

// tellUnfinished tells of a message that has begun and not ended, because it was answered or the connection has ended.
func (t *tap) tellUnfinished() {
	if t.begun && !t.told {
		t.now.cut = true
		t.tell()
		t.told = true
	}
}

// tell shows and records the message.
func (t *tap) tell() {
	c := t.conn
	if !t.ignored {
		c.relay.config.Screen.message(c.number, t.split.Answers, &t.now)
	}
	if t.split.Answers && t.now.head.Status < 200 {
		return // an interim answer is of no meaning to replay
	}
	e := recording.Event{Conn: c.number, What: recording.Request, Length: t.now.length, Body: t.part, Unfinished: t.now.cut}
	if t.split.Answers {
		e.What = recording.Answer
	}
	e.SetHead(t.now.kept)
	if !t.ignored {
		c.relay.record(e)
	}
	t.part = t.part[:0]
}

// Raw implements wire.Sink.
func (t *tap) Raw(p []byte) {
	t.out = t.passOn(p)
	c := t.conn
	c.relay.config.Screen.strange(c.number, t.side, p)
	e := recording.Event{Conn: c.number, What: recording.Raw, From: t.side, Length: int64(len(p))}
	if record := c.relay.config.Record; record != nil && record.Bodies() && len(p) <= recording.PartSize {
		e.Body = p
	}
	c.relay.record(e)
}

// lose says that the conversation is not understood any more, since its answers cannot be told whose they are.
func (t *tap) lose() {
	if !t.ignored {
		t.ignored = true
		t.conn.relay.config.Screen.fault(t.conn.number, "more than %d requests are without an answer: what follows from %s is passed on, and not shown",
			maxWaiting, names[t.side])
	}
}

// after says how long after its request an answer came.
func (m *message) after(now time.Time) time.Duration {
	if m.answers.at.IsZero() {
		return 0
	}
	return now.Sub(m.answers.at)
}
