package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/quic-go/quic-go"

	"peerstate/store"
)

// raw is a peer with a good certificate, whose every byte the test decides.
type raw struct {
	t        *testing.T
	conn     *quic.Conn
	control  *quic.Stream
	instance uint64
}

// socket gives a machine a place on the network for QUIC, until the test ends.
func (f *farm) socket(host string) *quic.Transport {
	conn, link := f.attach(host)
	tr := &quic.Transport{Conn: conn}
	f.t.Cleanup(func() {
		if err := errors.Join(tr.Close(), conn.Close(), link.Close()); err != nil {
			f.t.Error(err)
		}
	})
	return tr
}

// connect makes a connection with a node's certificate, and says nothing on it.
func (f *farm) connect(host string, to *testNode) *raw {
	f.t.Helper()
	snap := f.issue(host, time.Hour)
	conn, err := f.socket(host).Dial(f.t.Context(), to.addr, snap.DialTLS(alpn), quicConfig())
	if err != nil {
		f.t.Fatal(err)
	}
	return &raw{t: f.t, conn: conn, instance: NewInstance()}
}

// join says a proper hello.
func (f *farm) join(host string, to *testNode) *raw {
	f.t.Helper()
	r := f.connect(host, to)
	r.control = r.open()
	r.write(r.control, kindHello, hello{Min: 1, Max: maxVersion, Instance: r.instance, Clock: time.Now().UnixNano(), Number: to.mesh.Certs().DocumentNumber()})
	var w welcome
	if err := expect(r.control, kindWelcome, &w); err != nil {
		f.t.Fatal(err)
	}
	return r
}

// deaf is a peer that takes questions and never answers.
func (f *farm) deaf(host string, to *testNode) *raw {
	r := f.join(host, to)
	r.serve(func(*quic.Stream, kind, []byte) {})
	return r
}

func (r *raw) open() *quic.Stream {
	r.t.Helper()
	s, err := r.conn.OpenStreamSync(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *raw) write(s *quic.Stream, k kind, header any) {
	if err := writeFrame(s, k, header); err != nil && r.conn.Context().Err() == nil {
		r.t.Error(err)
	}
}

// serve lets f have each stream that the node opens, and its first frame, until the connection ends. Lists
// of links are taken, and nothing is said to them.
func (r *raw) serve(f func(s *quic.Stream, k kind, header []byte)) {
	go func() {
		for {
			s, err := r.conn.AcceptStream(context.Background())
			if err != nil {
				return
			}
			go func() {
				k, header, err := readFrame(s)
				switch {
				case err != nil:
				case k == kindLinks:
					_, _ = io.Copy(io.Discard, s) // the link may have ended
					_ = s.Close()
				default:
					f(s, k, header)
				}
			}()
		}
	}()
}

// answer has each stream of a kind answered with the same bytes; the side is ended if they say it all.
func (r *raw) answer(b []byte, end bool) {
	r.serve(func(s *quic.Stream, _ kind, _ []byte) {
		if _, err := s.Write(b); err == nil && end {
			_ = s.Close() // the link may have ended
		}
	})
}

// ended waits for the node to close the connection and gives the code, 0 if it does not.
func (r *raw) ended(within time.Duration) quic.ApplicationErrorCode {
	r.t.Helper()
	select {
	case <-r.conn.Context().Done():
	case <-time.After(within):
		return 0
	}
	app, ok := errors.AsType[*quic.ApplicationError](context.Cause(r.conn.Context()))
	if !ok || !app.Remote {
		r.t.Errorf("the connection has ended with %v", context.Cause(r.conn.Context()))
		return 0
	}
	return app.ErrorCode
}

func frame(k kind, header any, body ...byte) []byte {
	b, err := appendFrame(nil, k, header)
	if err != nil {
		panic(err)
	}
	return append(b, body...)
}

// rawFrame is a frame whose header is any bytes.
func rawFrame(k kind, header []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(k)<<24|uint32(len(header))), header...)
}

func mustCBOR(v any) []byte {
	b, err := cbor.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// found is the reply that brings a session, with changes.
func found(r *raw, change func(*reply), body ...byte) []byte {
	rep := reply{Kind: store.ReplyFound, Giver: r.instance, Number: 1,
		Record: &recordHead{Stamp: 1, Timeout: 20, Left: time.Minute, Cookie: 1, Size: int64(len(body))}}
	if change != nil {
		change(&rep)
	}
	return frame(kindReply, rep, body...)
}

// takeWithoutReceipt asks for a session, reads it, and does not say that it has it.
func (r *raw) takeWithoutReceipt(key string) {
	r.t.Helper()
	s := r.open()
	r.write(s, kindQuestion, question{Want: store.Move, Key: key, Within: time.Second})
	var rep reply
	if err := expect(s, kindReply, &rep); err != nil || rep.Kind != store.ReplyFound {
		r.t.Fatalf("reply %+v, %v", rep, err)
	}
	if _, err := readBody(s, rep.Record.Size, func() {}); err != nil {
		r.t.Fatal(err)
	}
}
