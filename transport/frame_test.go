package transport

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"

	"peerstate/certs"
	"peerstate/store"
)

// frames is one of each kind, with all fields set.
func frames() map[kind]any {
	v := &version{Stamp: 1 << 60, Epoch: 3, Deleted: 5, Tombstone: true, Uninitialized: true}
	return map[kind]any{
		kindHello:   hello{Min: 1, Max: 2, Instance: 1<<64 - 1, Site: "london", Clock: -5, Program: "1.0", Number: 3, Issuer: true, Aliases: "00ff"},
		kindWelcome: welcome{Version: 1, Instance: 7, Site: "tokyo", Clock: 1 << 62, Program: "1.1", Number: 4, Aliases: "11ee"},
		kindRefuse:  refuse{Code: refusedTwin, Text: "another live node is called web1", Instance: 9},
		kindPing:    ping{N: 1 << 63, Clock: -1 << 63, Sessions: 1000, Number: 5},
		kindPong:    ping{N: 1, Clock: 1, Answered: []answeredTo{{"b", 1}}, Program: "1.2", Reach: 2, Hops: 16, Aliases: "00ff"},
		kindQuestion: question{Want: store.Create, Key: "/LM/W3SVC/1/ROOT(\xff\x00)/x", Within: time.Second, Wait: 5,
			Number: 1 << 63, Hops: 16, Origin: "web3", Instance: 1<<64 - 1},
		kindReply: reply{Kind: store.ReplyFound, Locked: true, Cookie: 5, LockAge: time.Hour, Node: "web1", Epoch: 8, Deleted: 9, Giver: 10, Number: 11,
			Record:  &recordHead{Stamp: 1, Epoch: 2, Deleted: 3, Left: 4, Timeout: 5, Flags: -6, Cookie: 7, Floor: 8, Touched: true, Size: 9},
			Unknown: true, Creating: []creatorRef{{"web1", 7, 3}}, Asked: asked("web2", "web3"), Seen: true},
		kindReceipt:    receipt{Accepted: true, Version: v},
		kindForward:    forward{Op: store.Put, Key: "k", Cookie: -2, Timeout: 20, Flags: 1, Size: 1 << 40, Within: time.Minute},
		kindAnswer:     answer{NotHere: true, Status: store.Locked, Init: true, Cookie: 5, LockAge: time.Second},
		kindDoubt:      doubt{Giver: 1, Number: 2, Key: "k"},
		kindFate:       fate{Kind: store.PassedOn, Version: v, Node: "web2"},
		kindSettle:     settle{Holder: "web3", Entries: []settleEntry{{Key: "k", Version: *v}, {Key: "l"}}},
		kindSettlement: settlement{Entries: []settled{{Kind: store.SettleMine, Version: v, Node: "web4"}, {Kind: store.SettleKept, Node: "web5", Instance: 6, Up: true}}},
		kindKeep: keep{Kind: store.ParcelCopy, Key: "k", Record: &recordHead{Stamp: 1, Timeout: 5, Cookie: 7,
			Keepers: []peerRef{{Node: "web6", Instance: 8}}, Size: 9}},
		kindKept:  kept{Count: 3, But: []keptBut{{Index: 2, Kind: store.KeepNewer}}},
		kindNodes: nodeList{Nodes: []nodeInfo{{Name: "web5", Addr: "10.0.0.5:42425", Site: "paris", Up: true}}},
		kindLinks: linkList{Node: "web6", Instance: 5, Version: 1 << 62, Links: []string{"web1", "web2"}, Left: true,
			Cert: &certRef{Serial: "1f", IssuerKey: "2e", Key: "3d", Issued: -4, Expires: 1 << 62}, Number: 1<<64 - 1, Issuer: true, Trips: []uint32{12, 1<<32 - 1}, Program: "1.3", Aliases: "22dd"},
		kindVia:       via{To: "web7", ToRun: 7, From: "web8", Instance: 8, Hops: 15},
		kindDocument:  document{Size: 256 << 10},
		kindWant:      want{Number: 6, Issuer: true},
		kindCertify:   certify{Request: []byte("request")},
		kindCertified: certified{Certificate: []byte("DER"), Refused: "too many"},
		kindConfirm:   confirmAsk{Nonce: make([]byte, 32)},
		kindConfirmed: confirmed{Proof: []byte("proof"), Note: "its disk is full"},
		kindExplain:   explainAsk{Key: "LM/W3SVC/1/ROOT(a=)/\xff", ID: "\xff", Hash: "0011aabb"},
		kindTrace: trace{State: store.TraceMoved, Hash: "0011aabb", App: "LM/W3SVC/1/ROOT(a=)", Asked: true, OtherCase: true, Peer: "web1", Stamp: 1 << 62, Epoch: 2, Size: 3,
			Timeout: 4, Left: 5, Uninitialized: true, Lock: 6, LockAge: 7, Waiting: 8, Since: 9, Copies: []traceCopy{{Node: "web2", Current: true}},
			Events: []traceEvent{{What: store.EventGiven, Peer: "web3", Ago: 10}}, Client: &traceClient{Addr: "127.0.0.1:5", Open: true, Process: "w3wp.exe", PID: 11}},
		kindExplained: explained{Up: time.Hour, Memory: time.Minute, More: true, Busy: true},
		kindUse:       use{IDs: []string{"LM/W3SVC/1/ROOT(a=)", "LM/W3SVC/7/ROOT(b=)"}},
		kindUsed:      used{Saw: []bool{true, false}},
	}
}

func TestEachFrameIsReadAsItWasWritten(t *testing.T) {
	for k, header := range frames() {
		for what, reader := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "with its end": iotest.DataErrReader,
		} {
			var b bytes.Buffer
			if err := writeFrame(&b, k, header); err != nil {
				t.Fatal(err)
			}
			b.WriteString("body")
			r := reader(&b)
			back := reflect.New(reflect.TypeOf(header))
			if err := expect(r, k, back.Interface()); err != nil {
				t.Errorf("kind %d %s: %v", k, what, err)
			}
			if d := cmp.Diff(header, back.Elem().Interface()); d != "" {
				t.Errorf("kind %d %s: %s", k, what, d)
			}
			if body, err := readBody(r, 4, func() {}); err != nil || string(body) != "body" {
				t.Errorf("kind %d %s: behind it comes %q, %v", k, what, body, err)
			}
		}
	}
}

func TestAFrameThatIsCutOffIsNotRead(t *testing.T) {
	for k, header := range frames() {
		whole := frame(k, header)
		for n := range len(whole) {
			_, _, err := readFrame(bytes.NewReader(whole[:n]))
			if n == 0 && !errors.Is(err, io.EOF) || n > 0 && !errors.Is(err, errFrame) {
				t.Errorf("kind %d after %d of %d bytes: %v", k, n, len(whole), err)
			}
		}
	}
	if _, err := readBody(strings.NewReader("boo"), 4, func() {}); !errors.Is(err, errFrame) {
		t.Errorf("a body that is cut off: %v", err)
	}
	broken := errors.New("the link is cut")
	if _, _, err := readFrame(iotest.ErrReader(broken)); !errors.Is(err, broken) || errors.Is(err, errFrame) {
		t.Errorf("a cut link is taken for misbehaviour: %v", err)
	}
	if _, err := readBody(io.MultiReader(strings.NewReader("boo"), iotest.ErrReader(broken)), 4, func() {}); !errors.Is(err, broken) || errors.Is(err, errFrame) {
		t.Errorf("a cut link is taken for misbehaviour: %v", err)
	}
}

// What a later version adds is skipped, so that nodes of two releases work together.
func TestAFieldOfALaterVersionIsSkipped(t *testing.T) {
	data := mustCBOR(map[int]any{1: 1, 2: "k", 3: 5, 99: []any{"new", map[int]int{1: 2}}})
	var q question
	if err := decode(data, &q); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(question{Want: store.Move, Key: "k", Within: 5}, q); d != "" {
		t.Error(d)
	}
}

func TestAHeaderThatIsTooLongIsNeitherWrittenNorRead(t *testing.T) {
	if err := writeFrame(io.Discard, kindQuestion, question{Key: strings.Repeat("k", maxHeader)}); err == nil {
		t.Error("it was written")
	}
	if _, _, err := readFrame(bytes.NewReader(rawFrame(kindQuestion, make([]byte, maxHeader+1)))); !errors.Is(err, errFrame) {
		t.Errorf("reading it: %v", err)
	}
	if _, data, err := readFrame(bytes.NewReader(rawFrame(kindQuestion, make([]byte, maxHeader)))); err != nil || len(data) != maxHeader {
		t.Errorf("the longest: %d bytes, %v", len(data), err)
	}
}

// hungry is a reader that sees how much room it is offered before anything has come for it.
type hungry struct {
	io.Reader
	got, most int
}

func (h *hungry) Read(p []byte) (int, error) {
	h.most = max(h.most, len(p)-h.got)
	n, err := h.Reader.Read(p)
	h.got += n
	return n, err
}

func TestABodyTakesMemoryAsItArrives(t *testing.T) {
	const size = 1 << 20
	for _, sent := range []int{0, 1, 5000, 100_000, size} {
		h := &hungry{Reader: io.MultiReader(bytes.NewReader(make([]byte, sent)), iotest.ErrReader(io.ErrNoProgress))}
		b, err := readBytes(h, size, func() {})
		if sent < size && !errors.Is(err, io.ErrNoProgress) || sent == size && (err != nil || len(b) != size || cap(b) != size) {
			t.Errorf("after %d bytes: %d of %d, %v", sent, len(b), cap(b), err)
		}
		if h.most > readStep {
			t.Errorf("with %d bytes sent there was room for %d more than had come", sent, h.most)
		}
	}
}

func FuzzFrame(f *testing.F) {
	for k, header := range frames() {
		f.Add(frame(k, header, []byte("body")...))
	}
	for _, b := range badStreams() {
		f.Add(b)
	}
	f.Add(rawFrame(kindKept, mustCBOR(map[int]any{1: 6, 2: []int{}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		_, data, err := readFrame(r)
		if err != nil {
			if !errors.Is(err, errFrame) && !errors.Is(err, io.EOF) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if len(data) > maxHeader || len(data) != len(b)-r.Len()-4 {
			t.Fatalf("a header of %d bytes from %d", len(data), len(b))
		}
		for _, header := range frames() {
			got := reflect.New(reflect.TypeOf(header))
			if err := decode(data, got.Interface()); err != nil {
				if !errors.Is(err, errFrame) {
					t.Errorf("an error of another kind: %v", err)
				}
				continue
			}
			checkAll(t, got.Interface())
			again := reflect.New(reflect.TypeOf(header))
			encoded, err := encoding.Marshal(got.Interface())
			if err == nil {
				err = decode(encoded, again.Interface())
			}
			if err != nil {
				t.Fatalf("%+v cannot be sent on: %v", got, err)
			}
			// An empty list is left out when it is sent on.
			if d := cmp.Diff(got.Interface(), again.Interface(), cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
		}
	})
}

// checkAll puts a header through what stands between it and the store.
func checkAll(t *testing.T, header any) {
	switch h := header.(type) {
	case *reply:
		if h.check(store.Move, h.Giver, true) == nil && h.Kind == store.ReplyHeld && h.Locked && h.Cookie < 1 {
			t.Errorf("a lock with cookie %d", h.Cookie)
		}
		if h.Record != nil {
			rec := h.Record.record("k")
			if rec.Check() == nil && (rec.Stamp == 0 || rec.Cookie < 1 || rec.Timeout < 0) {
				t.Errorf("it passes: %+v", rec)
			}
		}
	case *linkList:
		if h.check() == nil && (!slices.IsSorted(h.Links) || h.has(h.Node) || len(h.Links) > maxLearned) {
			t.Errorf("it passes: %+v", h)
		}
	case *via:
		if h.check() == nil && (h.To == h.From || h.Hops < 0) {
			t.Errorf("it passes: %+v", h)
		}
	case *trace:
		if h.check() != nil {
			return
		}
		got := h.of()
		if strings.ContainsAny(got.App+got.Hash, "\n\r\x00\x1b") || got.Left < 0 || got.LockAge < 0 || got.Size < 0 || got.State > store.TraceLoaded || len(got.Copies) > mostTold {
			t.Errorf("it passes: %+v", got)
		}
	case *answer:
		if h.check() == nil && h.Status > store.Unknown {
			t.Errorf("it passes: %+v", h)
		}
	case *receipt:
		sane(t, h.Version.of())
	case *fate:
		sane(t, h.Version.of())
	case *settle:
		for _, e := range h.Entries {
			sane(t, e.Version.of())
		}
	case *settlement:
		for _, e := range h.Entries {
			sane(t, e.Version.of())
		}
	case *keep:
		if h.Record != nil {
			rec := h.Record.record("k")
			if rec.CheckNote() == nil && (rec.Stamp == 0 || rec.Stamp > 1<<62 || rec.Timeout < 0) {
				t.Errorf("it passes: %+v", rec)
			}
		}
	case *hello:
		if s := plain(h.Site); strings.ContainsAny(s, "\n\r\x00\x1b") || len(s) > 200 {
			t.Errorf("not fit for a log: %q", s)
		}
	}
}

func sane(t *testing.T, v store.Version) {
	if v.Stamp+1 == 0 || v.Stamp > 1<<62 || v.Deleted > 1<<62 || v.Epoch > 1<<62 {
		t.Errorf("beyond all bounds: %+v", v)
	}
}

// FuzzServe sends bytes as a stream to a node, as a peer with a good certificate can.
func FuzzServe(f *testing.F) {
	for k, header := range frames() {
		f.Add(frame(k, header, []byte("body")...))
	}
	for _, b := range badStreams() {
		f.Add(b)
	}
	dir := f.TempDir()
	ca := realCA(f, dir)
	a := realStart(f, ca, dir, "a", "127.0.0.1:0")
	if _, err := ca.Issue(filepath.Join(dir, "b"), "b", time.Hour, time.Now()); err != nil {
		f.Fatal(err)
	}
	snap, err := certs.Load(filepath.Join(dir, "b"), time.Now())
	if err != nil {
		f.Fatal(err)
	}
	key := []byte(keyOf(987654321))
	a.do(&store.Request{Op: store.Put, Key: key, Timeout: 20, Body: []byte("contents")})
	lock := a.do(&store.Request{Op: store.Acquire, Key: key, Cookie: store.NoCookie}).Cookie
	a.mesh.quota("b").knocks = rate.NewLimiter(rate.Inf, 1) // it is unlinked by nearly each input, and links again
	p := &fuzzPeer{to: a.mesh.Addr().String(), snap: snap}
	f.Cleanup(p.hangUp)
	f.Fuzz(func(t *testing.T, b []byte) {
		p.send(t, b)
		got := a.do(&store.Request{Op: store.Get, Key: key, Cookie: store.NoCookie})
		if got.Status != store.Locked || got.Cookie != lock {
			t.Fatalf("a session that was not meant: status %d, cookie %d", got.Status, got.Cookie)
		}
	})
}

// fuzzPeer links to a node anew whenever that has unlinked it.
type fuzzPeer struct {
	to   string
	snap *certs.Snapshot
	conn *quic.Conn
}

func (p *fuzzPeer) hangUp() {
	if p.conn != nil {
		_ = p.conn.CloseWithError(closeBye, "") // it may have ended
		p.conn = nil
	}
}

// link gives a connection on which hello was said.
func (p *fuzzPeer) link(t *testing.T) *quic.Conn {
	t.Helper()
	if p.conn != nil && p.conn.Context().Err() == nil {
		return p.conn
	}
	p.hangUp()
	for end := time.Now().Add(10 * time.Second); ; {
		conn, err := quic.DialAddr(t.Context(), p.to, p.snap.DialTLS(alpn), quicConfig())
		if err != nil {
			t.Fatal(err)
		}
		p.conn = conn
		s, err := conn.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		if err := writeFrame(s, kindHello, hello{Min: 1, Max: 1, Instance: 4711}); err != nil {
			t.Fatal(err)
		}
		var w welcome
		if err = expect(s, kindWelcome, &w); err == nil {
			return conn
		}
		p.hangUp()
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// send opens a stream with the bytes on it, and waits for the other side to end it, one way or the other.
func (p *fuzzPeer) send(t *testing.T, b []byte) {
	t.Helper()
	s, err := p.link(t).OpenStream()
	if err != nil {
		p.hangUp() // it was unlinked just now
		return
	}
	if err := s.SetDeadline(time.Now().Add(2 * stall)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(b); err != nil {
		return
	}
	_ = s.Close() // it may have been given up by the other side
	if _, err := io.Copy(io.Discard, s); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the stream was neither answered nor ended")
	}
	s.CancelRead(streamGivenUp)
}

// asked names nodes, each in a run of it.
func asked(names ...string) (all []peerRef) {
	for i, name := range names {
		all = append(all, peerRef{name, uint64(i + 1)})
	}
	return all
}
