package transport

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/quic-go/quic-go"

	"peerstate/certs"
	"peerstate/store"
)

func value(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// unharmed checks what no peer may spoil: the sessions of the node and of an honest peer, and their link.
type unharmed struct {
	f      *farm
	a, c   *testNode
	before *link
}

// besideAnHonestPeer starts a, and c which is linked to it; both have sessions.
func besideAnHonestPeer(f *farm) *unharmed {
	a, c := f.start("a"), f.start("c", "a")
	f.linked(a, c)
	a.put(keyOf(100), "on a", 0)
	c.put(keyOf(101), "on c", 0)
	return &unharmed{f: f, a: a, c: c, before: a.mesh.direct("c")}
}

func (u *unharmed) check() {
	t := u.f.t
	t.Helper()
	u.f.wantAnswer("a local get", u.a.get(keyOf(100)), store.OK, "on a")
	wantTime(t, "a get from the honest peer", took(func() {
		u.f.wantAnswer("it", u.a.get(keyOf(101)), store.OK, "on c")
	}), 2*u.f.delay)
	u.f.wantAnswer("the way back", u.c.get(keyOf(101)), store.OK, "on c")
	if u.a.mesh.direct("c") != u.before {
		t.Error("the honest peer's link has suffered")
	}
}

// closed checks that the peer's link was closed and counted for misbehaviour.
func (u *unharmed) closed(r *raw) {
	t := u.f.t
	t.Helper()
	if code := r.ended(time.Second); code != closeMisbehaved {
		t.Errorf("closed with code %d, want %d", code, closeMisbehaved)
	}
	synctest.Wait()
	if n := value(t, u.a.mesh.metrics.misbehaved); n != 1 {
		t.Errorf("counted %v times", n)
	}
	if u.a.mesh.direct("b") != nil {
		t.Error("still linked")
	}
}

var deepCBOR = append(bytes.Repeat([]byte{0xa1, 0x01}, 1000), 0x01)

// streams are the first bytes of streams that no node opens.
func badStreams() map[string][]byte {
	q := question{Want: store.Move, Key: keyOf(100), Within: time.Second}
	put := func(change func(*forward), body ...byte) []byte {
		w := forward{Op: store.Put, Key: keyOf(100), Cookie: 0, Timeout: 20, Size: int64(len(body)), Within: time.Second}
		change(&w)
		return frame(kindForward, w, body...)
	}
	return map[string][]byte{
		"a browser":                   []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
		"a header over the limit":     binary.BigEndian.AppendUint32(nil, uint32(kindQuestion)<<24|(maxHeader+1)),
		"kind 0":                      make([]byte, 8),
		"a header that ends too soon": frame(kindQuestion, q)[:20],
		"a length that ends too soon": frame(kindQuestion, q)[:3],
		"a session that nobody asked for": frame(kindReply, reply{Kind: store.ReplyFound, Giver: 1, Number: 1,
			Record: &recordHead{Stamp: 1, Timeout: 20, Cookie: 1, Size: 1}}, 'x'),
		"a receipt for nothing":             frame(kindReceipt, receipt{Accepted: true}),
		"a second hello":                    frame(kindHello, hello{Min: 1, Max: 1, Instance: 5}),
		"a ping beside the control stream":  frame(kindPing, ping{N: 1}),
		"no CBOR":                           rawFrame(kindQuestion, []byte{0xff, 0xff, 0xff}),
		"an empty header":                   rawFrame(kindQuestion, nil),
		"CBOR of another type":              rawFrame(kindQuestion, mustCBOR([]int{1, 2})),
		"CBOR with bytes behind it":         rawFrame(kindQuestion, append(mustCBOR(map[int]any{1: 1, 2: "k"}), 0)),
		"deep CBOR":                         rawFrame(kindQuestion, deepCBOR),
		"CBOR of indefinite length":         rawFrame(kindQuestion, []byte{0xbf, 0x01, 0x01, 0x02, 0x61, 'k', 0xff}),
		"CBOR with a tag":                   rawFrame(kindQuestion, []byte{0xa2, 0x01, 0x01, 0x02, 0xc1, 0x61, 'k'}),
		"CBOR with a key twice":             rawFrame(kindQuestion, []byte{0xa3, 0x01, 0x01, 0x02, 0x61, 'k', 0x02, 0x61, 'l'}),
		"a number beyond its type":          rawFrame(kindQuestion, mustCBOR(map[int]any{1: 4711, 2: "k"})),
		"a question without a key":          frame(kindQuestion, question{Want: store.Move}),
		"a question with a huge key":        frame(kindQuestion, question{Want: store.Move, Key: strings.Repeat("k", maxKey+1)}),
		"to explain nothing":                frame(kindExplain, explainAsk{}),
		"to explain a huge id":              frame(kindExplain, explainAsk{ID: strings.Repeat("k", maxKey+1)}),
		"to explain a huge hash":            frame(kindExplain, explainAsk{Hash: strings.Repeat("0", maxRef+1)}),
		"an account of nobody":              frame(kindExplained, explained{}),
		"a trace of nothing":                frame(kindTrace, trace{}),
		"no application ids":                frame(kindUse, use{}),
		"very many application ids":         frame(kindUse, use{IDs: make([]string, useMost+1)}),
		"a question of no kind":             frame(kindQuestion, question{Key: "k"}),
		"bytes behind a question":           append(frame(kindQuestion, question{Want: store.Locate, Key: "k", Within: time.Second}), "more"...),
		"a get passed on":                   put(func(w *forward) { w.Op = store.Get }),
		"an operation 77":                   put(func(w *forward) { w.Op = 77 }),
		"a write without a key":             put(func(w *forward) { w.Key = "" }),
		"a write of negative size":          put(func(w *forward) { w.Size = -1 }),
		"a write over the limit":            put(func(w *forward) { w.Size = 64<<20 + 1 }),
		"a release with a body":             put(func(w *forward) { w.Op = store.Release }, 'x'),
		"a write with timeout -1":           put(func(w *forward) { w.Timeout = -1 }, 'x'),
		"a write for two years":             put(func(w *forward) { w.Timeout = 2 * store.MaxTimeout }, 'x'),
		"a write with cookie -9":            put(func(w *forward) { w.Cookie = -9 }, 'x'),
		"a write with less than it says":    put(func(w *forward) { w.Size = 100 }, []byte("0123456789")...),
		"a write with more than it says":    put(func(w *forward) { w.Key, w.Size = "k", 5 }, []byte("0123456789")...),
		"a doubt about another's hand-over": frame(kindDoubt, doubt{Giver: 12345, Number: 1, Key: "k"}),
		"a doubt without a key":             frame(kindDoubt, doubt{Number: 1}),
		"a backup of no kind":               frame(kindKeep, keep{Kind: 9, Key: "k", Record: &recordHead{Stamp: 1, Cookie: 1}}),
		"a backup without a record":         frame(kindKeep, keep{Kind: store.ParcelCopy, Key: "k"}),
		"a backup without a key":            frame(kindKeep, keep{Kind: store.ParcelCopy, Record: &recordHead{Stamp: 1, Cookie: 1}}),
		"a renewal with a body":             frame(kindKeep, keep{Kind: store.ParcelRenew, Key: "k", Record: &recordHead{Stamp: 1, Cookie: 1, Size: 5}}, []byte("12345")...),
		"a burial without a stamp":          frame(kindKeep, keep{Kind: store.ParcelBury, Key: "k", Record: &recordHead{}}),
		"a backup beyond all stamps":        frame(kindKeep, keep{Kind: store.ParcelForget, Key: "k", Record: &recordHead{Stamp: 1<<64 - 1}}),
		"a question among backups":          append(frame(kindKeep, keep{Kind: store.ParcelForget, Key: "k", Record: &recordHead{Stamp: 1}}), frame(kindQuestion, q)...),
		"a settlement of too many":          frame(kindSettle, settle{Holder: "b", Entries: make([]settleEntry, settleMost+1)}),
		"a settlement without a key":        frame(kindSettle, settle{Holder: "b", Entries: []settleEntry{{}}}),
		"a settlement for no name":          frame(kindSettle, settle{Holder: "b\nlevel=ERROR msg=forged", Entries: []settleEntry{{Key: "k"}}}),
		"a question of no name":             frame(kindQuestion, question{Want: store.Move, Key: "k", Number: 1, Origin: "../x"}),
		"a question for -1 hops":            frame(kindQuestion, question{Want: store.Move, Key: "k", Number: 1, Hops: -1}),
		"a question for endless hops":       frame(kindQuestion, question{Want: store.Move, Key: "k", Number: 1, Hops: 1 << 40}),
		"a question beyond all numbers":     rawFrame(kindQuestion, mustCBOR(map[int]any{1: 1, 2: "k", 5: 1, 6: uint64(1<<64 - 1)})),
		"a stream for no name":              frame(kindVia, via{To: "A B", From: "b", Hops: 1}),
		"a stream of no name":               frame(kindVia, via{To: "c", Hops: 1}),
		"a stream for its own sender":       frame(kindVia, via{To: "c", From: "c", Hops: 1}),
		"a document of -1 bytes":            frame(kindDocument, document{Size: -1}),
		"a document that is none":           frame(kindDocument, document{Size: 4}, 1, 2, 3, 4),
		"a document that is too large":      frame(kindDocument, document{Size: certs.MaxDocument + 1}),
		"a list with half a key":            frame(kindLinks, linkList{Node: "x", Cert: &certRef{Key: "half a key"}}),
		"a list with a long serial number":  frame(kindLinks, linkList{Node: "x", Cert: &certRef{Serial: strings.Repeat("1", maxRef+1)}}),
		"a stream for -1 hops":              frame(kindVia, via{To: "c", From: "b", Hops: -1}),
		"a stream for endless hops":         frame(kindVia, via{To: "c", From: "b", Hops: 1 << 60}),

		"a request for a certificate of nothing":  frame(kindCertify, certify{}),
		"a request for a certificate, too long":   frame(kindCertify, certify{Request: make([]byte, certs.MaxRequest+1)}),
		"a certificate that nobody has asked for": frame(kindCertified, certified{Certificate: []byte("x")}),
		"a nonce of no byte":                      frame(kindConfirm, confirmAsk{}),
		"a nonce of 100 bytes":                    frame(kindConfirm, confirmAsk{Nonce: make([]byte, 100)}),
		"a confirmation of nothing":               frame(kindConfirmed, confirmed{Proof: []byte("x")}),

		"links of no name":                  frame(kindLinks, linkList{Node: "", Version: 1}),
		"a link to no name":                 frame(kindLinks, linkList{Node: "b", Version: 1, Links: []string{"\n"}}),
		"a link to oneself":                 frame(kindLinks, linkList{Node: "b", Version: 1, Links: []string{"b"}}),
		"a link twice":                      frame(kindLinks, linkList{Node: "b", Version: 1, Links: []string{"c", "c"}}),
		"a session given in another's name": frame(kindGive, give{Key: "k", Giver: 12345, Number: 1, Record: &recordHead{Stamp: 1, Timeout: 20, Cookie: 1}}),
		"a session given without a key":     frame(kindGive, give{Giver: 12345, Number: 1, Record: &recordHead{Stamp: 1, Timeout: 20, Cookie: 1}}),
		"no CBOR for a session given":       rawFrame(kindGive, []byte{0xff}),
		"no CBOR for a write":               rawFrame(kindForward, []byte{0xff}),
		"no CBOR for a doubt":               rawFrame(kindDoubt, []byte{0xff}),
		"no CBOR for a settlement":          rawFrame(kindSettle, []byte{0xff}),
		"no CBOR for links":                 rawFrame(kindLinks, []byte{0xff}),
		"no CBOR for an explanation":        rawFrame(kindExplain, []byte{0xff}),
		"no CBOR for a nonce":               rawFrame(kindConfirm, []byte{0xff}),
		"no CBOR for application ids":       rawFrame(kindUse, []byte{0xff}),
		"no CBOR for a stream further on":   rawFrame(kindVia, []byte{0xff}),

		"more round-trip times than links": frame(kindLinks, linkList{Node: "b", Version: 1, Links: []string{"c"}, Trips: []uint32{1, 2}}),
		"more links than a farm has nodes": frame(kindLinks, linkList{Node: "b", Version: 1, Links: manyNames(maxLearned + 1)}),
		"a question among links":           append(frame(kindLinks, linkList{Node: "b", Version: 1}), frame(kindQuestion, q)...),
	}
}

func TestAPeerThatOpensAStreamAsNoNodeDoesIsUnlinkedAndCounted(t *testing.T) {
	for what, b := range badStreams() {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				r := f.join("b", u.a)
				s := r.open()
				if _, err := s.Write(b); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				u.closed(r)
				u.check()
			})
		})
	}
}

func TestAPeerThatFillsTheControlStreamAsNoNodeDoesIsUnlinkedAndCounted(t *testing.T) {
	for what, b := range map[string][]byte{
		"a browser":               []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
		"a second hello":          frame(kindHello, hello{Min: 1, Max: 1, Instance: 5}),
		"a question":              frame(kindQuestion, question{Want: store.Move, Key: "k"}),
		"a header over the limit": binary.BigEndian.AppendUint32(nil, uint32(kindPing)<<24|(maxHeader+1)),
		"no CBOR":                 rawFrame(kindPing, []byte{0xff}),
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				r := f.join("b", u.a)
				if _, err := r.control.Write(b); err != nil {
					t.Fatal(err)
				}
				u.closed(r)
				u.check()
			})
		})
	}
}

func TestAPeerThatEndsTheControlStreamIsUnlinked(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		if err := r.control.Close(); err != nil {
			t.Fatal(err)
		}
		if code := r.ended(time.Second); code == 0 {
			t.Error("it was not closed")
		}
		u.check()
	})
}

func TestAConnectionThatSaysNoProperHelloIsClosed(t *testing.T) {
	first := frame(kindHello, hello{Min: 1, Max: 1, Instance: 5})
	for what, tt := range map[string]struct {
		b       []byte
		after   time.Duration
		counted float64
	}{
		"nothing at all":          {nil, helloTimeout, 0},
		"half a hello":            {first[:7], helloTimeout, 0},
		"a question":              {frame(kindQuestion, question{Want: store.Move, Key: keyOf(100), Within: time.Second}), 0, 1},
		"a browser":               {[]byte("GET / HTTP/1.1\r\n\r\n"), 0, 1},
		"a header over the limit": {binary.BigEndian.AppendUint32(nil, uint32(kindHello)<<24|(maxHeader+1)), 0, 1},
		"no CBOR":                 {rawFrame(kindHello, []byte{0xff}), 0, 1},
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				r := f.connect("b", u.a)
				if tt.b != nil {
					if _, err := r.open().Write(tt.b); err != nil {
						t.Fatal(err)
					}
				}
				d := took(func() {
					if code := r.ended(10 * time.Second); code != closeRefused {
						t.Errorf("closed with code %d", code)
					}
				})
				if d < tt.after || d > tt.after+2*f.delay {
					t.Errorf("closed after %v, want %v and the way", d, tt.after)
				}
				synctest.Wait()
				if n := value(t, u.a.mesh.metrics.misbehaved); n != tt.counted {
					t.Errorf("counted %v times, want %v", n, tt.counted)
				}
				if u.a.mesh.direct("b") != nil {
					t.Error("it is linked")
				}
				u.check()
			})
		})
	}
}

func TestANodeThatSpeaksNoVersionInCommonIsRefusedAndOneThatSpeaksMoreIsNot(t *testing.T) {
	for what, tt := range map[string]struct{ lowest, highest, used int }{
		"older": {0, 0, 0}, "newer": {maxVersion + 1, 9, 0}, "turned round": {5, 0, 0}, "only the first": {0, 1, 1},
		"both": {1, maxVersion + 1, maxVersion}, "all": {0, 1000, maxVersion},
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				r := f.connect("b", u.a)
				s := r.open()
				r.write(s, kindHello, hello{Min: tt.lowest, Max: tt.highest, Instance: 5})
				k, data, err := readFrame(s)
				if err != nil {
					t.Fatal(err)
				}
				var w welcome
				var no refuse
				switch k {
				case kindWelcome:
					err = decode(data, &w)
				case kindRefuse:
					err = decode(data, &no)
				}
				if err != nil || w.Version != tt.used || (tt.used == 0) != (no.Code == refusedVersion) {
					t.Errorf("version %d, refused %d %q, %v", w.Version, no.Code, no.Text, err)
				}
				if (u.a.mesh.direct("b") != nil) != (tt.used != 0) {
					t.Errorf("linked: %v", u.a.mesh.direct("b"))
				}
				u.check()
			})
		})
	}
}

func TestAPeerThatAnswersAsNoNodeDoesIsUnlinkedAndCounted(t *testing.T) {
	get := func(n *testNode) store.Answer { return n.get(keyOf(1)) }
	head := func(n *testNode) store.Answer { return n.head(keyOf(1)) }
	for what, tt := range map[string]struct {
		ask    func(*testNode) store.Answer
		answer func(*raw) []byte
	}{
		"garbage":                    {get, func(*raw) []byte { return []byte("HTTP/1.1 200 OK\r\n\r\n") }},
		"a frame of another kind":    {get, func(*raw) []byte { return frame(kindAnswer, answer{}) }},
		"a reply of no kind":         {get, func(*raw) []byte { return frame(kindReply, reply{Kind: 77}) }},
		"deep CBOR":                  {get, func(*raw) []byte { return rawFrame(kindReply, deepCBOR) }},
		"a document for a reply":     {get, func(*raw) []byte { return frame(kindDocument, document{}) }},
		"bytes behind the reply":     {get, func(*raw) []byte { return frame(kindReply, reply{Kind: store.ReplyMissing}, 'x') }},
		"a lock without a cookie":    {get, func(*raw) []byte { return frame(kindReply, reply{Kind: store.ReplyHeld, Locked: true}) }},
		"moved to no name":           {get, func(*raw) []byte { return frame(kindReply, reply{Kind: store.ReplyMoved, Node: "../x"}) }},
		"found, and no session":      {get, func(r *raw) []byte { return found(r, func(p *reply) { p.Record = nil }) }},
		"found by another":           {get, func(r *raw) []byte { return found(r, func(p *reply) { p.Giver++ }, 'x') }},
		"found when only located":    {head, func(r *raw) []byte { return found(r, nil, 'x') }},
		"a size over the limit":      {get, func(r *raw) []byte { return found(r, func(p *reply) { p.Record.Size = 64<<20 + 1 }) }},
		"a negative size":            {get, func(r *raw) []byte { return found(r, func(p *reply) { p.Record.Size = -1 }) }},
		"a body that ends too soon":  {get, func(r *raw) []byte { return found(r, func(p *reply) { p.Record.Size = 99 }, 'x') }},
		"a stamp of 0":               {get, func(r *raw) []byte { return found(r, func(p *reply) { p.Record.Stamp = 0 }, 'x') }},
		"a stamp beyond all clocks":  {get, func(r *raw) []byte { return found(r, func(p *reply) { p.Record.Stamp = 1 << 63 }, 'x') }},
		"a timeout beyond the limit": {get, func(r *raw) []byte { return found(r, func(p *reply) { p.Record.Timeout = 1 << 30 }, 'x') }},
		"more time than the timeout": {get, func(r *raw) []byte { return found(r, func(p *reply) { p.Record.Left = time.Hour }, 'x') }},
		"a counter below the first":  {get, func(r *raw) []byte { return found(r, func(p *reply) { p.Record.Cookie = 0 }, 'x') }},
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				r := f.join("b", u.a)
				r.answer(tt.answer(r), true)
				switch got := tt.ask(u.a); got.Status {
				case store.Unknown:
				case store.NotFound:
					if what != "bytes behind the reply" { // then the reply itself was good
						t.Error("a session is said to be missing")
					}
				default:
					t.Errorf("status %d", got.Status)
				}
				u.closed(r)
				u.check()
			})
		})
	}
}

func TestAHolderThatAnswersAWriteAsNoNodeDoesIsUnlinkedAndTheWriteIsAnError(t *testing.T) {
	for what, a := range map[string]answer{
		"a status that does not exist": {Status: 9},
		"not found":                    {Status: store.NotFound},
		"a cookie below 0":             {Status: store.Locked, Cookie: -5},
		"a lock without a cookie":      {Status: store.Locked},
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				r := f.join("b", u.a)
				r.serve(func(s *quic.Stream, k kind, _ []byte) {
					switch k {
					case kindQuestion:
						r.write(s, kindReply, reply{Kind: store.ReplyHeld, Locked: true, Cookie: 2})
					default:
						r.write(s, kindAnswer, a)
					}
				})
				f.wantAnswer("a put", u.a.put(keyOf(1), "x", 2), store.Unknown, "")
				u.closed(r)
				u.check()
			})
		})
	}
}

func TestAnImpossibleFateOrSettlementUnlinksAndTheSessionIsServedAgain(t *testing.T) {
	for what, back := range map[string][]byte{
		"a fate that does not exist": frame(kindFate, fate{Kind: 99}),
		"passed on to no name":       frame(kindFate, fate{Kind: store.PassedOn, Node: "\x00"}),
		"a frame of another kind":    frame(kindSettlement, settlement{}),
		"garbage":                    []byte("xxxxxxxxxxxxxxx"),
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				u.a.put(keyOf(1), "cart", 0)
				r := f.join("b", u.a)
				r.takeWithoutReceipt(keyOf(1))
				r.answer(back, true)
				if code := r.ended(7 * time.Second); code != closeMisbehaved {
					t.Errorf("closed with code %d", code)
				}
				f.wantAnswer("get while in doubt", u.a.get(keyOf(1)), store.Unknown, "")
				time.Sleep(5*time.Second + 10*f.delay)
				f.wantAnswer("get when the other is out", u.a.get(keyOf(1)), store.OK, "cart")
				u.check()
			})
		})
	}
}

func TestAReceiptThatNeverComesLeavesTheGiverUsableAndLosesNothing(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		r := f.join("b", u.a)
		for i := range 50 {
			u.a.put(keyOf(i), "cart", 0)
			r.takeWithoutReceipt(keyOf(i))
		}
		time.Sleep(stall + 100*time.Millisecond)
		if n := u.a.store.Stats().Doubts; n != 50 {
			t.Errorf("%d doubts", n)
		}
		for i := range 50 {
			if d := took(func() { f.wantAnswer("get", u.a.get(keyOf(i)), store.Unknown, "") }); d != 0 {
				t.Errorf("it took %v to say that it is not known", d)
			}
		}
		u.check()
		if err := r.conn.CloseWithError(0, ""); err != nil {
			t.Error(err)
		}
		time.Sleep(7 * time.Second)
		for i := range 50 {
			f.wantAnswer("get when the receiver is out", u.a.get(keyOf(i)), store.OK, "cart")
		}
		u.check()
	})
}

func TestAReceiverThatSaysThatItDidNotGetTheSessionEndsTheDoubt(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		u := besideAnHonestPeer(f)
		u.a.put(keyOf(1), "cart", 0)
		r := f.join("b", u.a)
		r.takeWithoutReceipt(keyOf(1))
		r.serve(func(s *quic.Stream, k kind, _ []byte) {
			switch k {
			case kindDoubt:
				r.write(s, kindFate, fate{Kind: store.NotReceived})
			default:
				r.write(s, kindReply, reply{Kind: store.ReplyMissing})
			}
			_ = s.Close() // the link may have ended
		})
		time.Sleep(stall + 100*time.Millisecond)
		f.wantAnswer("get", u.a.get(keyOf(1)), store.OK, "cart")
		u.check()
	})
}

// givesAs has a peer give away a session, and then what is in more.
func (r *raw) givesAs(change func(*give), more ...byte) {
	r.t.Helper()
	g := give{Key: "k", Giver: r.instance, Number: 1, Record: &recordHead{Stamp: 1, Timeout: 20, Left: time.Minute, Cookie: 1, Size: 1}}
	change(&g)
	if _, err := r.open().Write(append(frame(kindGive, g, 'x'), more...)); err != nil {
		r.t.Fatal(err)
	}
}

func TestAPeerThatGivesSessionsAsNoNodeDoesIsUnlinkedAndCounted(t *testing.T) {
	nothing := func(*give) {}
	for what, c := range map[string]struct {
		change func(*give)
		more   []byte
	}{
		"without a key":               {func(g *give) { g.Key = "" }, nil},
		"without a record":            {func(g *give) { g.Record = nil }, nil},
		"over the limit":              {func(g *give) { g.Record.Size = 64<<20 + 1 }, nil},
		"another's":                   {func(g *give) { g.Giver++ }, nil},
		"and then a question":         {nothing, frame(kindQuestion, question{Want: store.Move, Key: "k"})},
		"and then what is no CBOR":    {nothing, rawFrame(kindGive, []byte{0xff})},
		"and then a half of a length": {nothing, []byte{byte(kindGive), 0xff, 0xff, 0xff}},
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				r := f.join("b", u.a)
				r.serve(func(s *quic.Stream, _ kind, _ []byte) {
					r.write(s, kindReply, reply{Kind: store.ReplyMissing})
					_ = s.Close() // the link may have ended
				})
				r.givesAs(c.change, c.more...)
				u.closed(r)
				u.check()
			})
		})
	}
}

func TestAKeeperThatAnswersAsNoNodeDoesIsUnlinkedAndCounted(t *testing.T) {
	for what, back := range map[string][]byte{
		"garbage":                    []byte("xxxxxxxxxxxxxxx"),
		"a frame of another kind":    frame(kindFate, fate{}),
		"none":                       frame(kindKept, kept{Count: 0}),
		"more than may be":           frame(kindKept, kept{Count: keepAnswers + 1}),
		"more refusals than answers": frame(kindKept, kept{Count: 1, But: make([]keptBut, 2)}),
		"a refusal that is not his":  frame(kindKept, kept{Count: 1, But: []keptBut{{Index: 5, Kind: store.KeepRefused}}}),
		"more than were sent":        frame(kindKept, kept{Count: 5}),
	} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				f.backups = 1
				a := f.start("a")
				r := f.join("b", a)
				r.serve(func(s *quic.Stream, k kind, _ []byte) {
					switch k {
					case kindKeep:
						_, _ = s.Write(back) // the link may have ended
					case kindQuestion:
						r.write(s, kindReply, reply{Kind: store.ReplyMissing})
						_ = s.Close()
					}
				})
				f.wantAnswer("put", a.put("k", "cart", 0), store.OK, "")
				if code := r.ended(stall + time.Second); code != closeMisbehaved {
					t.Errorf("closed with code %d", code)
				}
				if n := value(t, a.mesh.metrics.misbehaved); n != 1 {
					t.Errorf("counted %v times", n)
				}
				f.wantAnswer("get", a.get("k"), store.OK, "cart")
			})
		})
	}
}
