package recording

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file bytes.Buffer
		h := Header{Started: time.Now().UTC(), To: "127.0.0.1:42424", Bodies: true}
		w, err := NewWriter(&file, h)
		if err != nil {
			t.Fatal(err)
		}
		events := []Event{
			{Conn: 1, What: Connect},
			{Conn: 1, What: Part, From: Client, Length: 3, Body: []byte{0, 1, 255}},
			{Conn: 1, What: Request, Length: 4, Body: []byte("x")},
			{Conn: 1, What: End, From: Server, Reset: true, At: 1.5},
		}
		events[2].SetHead([]byte("GET <a>&\xff HTTP/1.1\r\n\r\n"))
		for i, e := range events {
			if i == 3 {
				time.Sleep(1500 * time.Millisecond)
			}
			w.Write(e)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		r, err := NewReader(bytes.NewReader(file.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		h.Version = Version
		if diff := cmp.Diff(h, r.Header); diff != "" {
			t.Error(diff)
		}
		for _, want := range events {
			got, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		if string(events[2].GetHead()) != "GET <a>&\xff HTTP/1.1\r\n\r\n" {
			t.Errorf("the head is %q", events[2].GetHead())
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) || r.Line() != 6 {
			t.Errorf("after the last event: %v in line %d", err, r.Line())
		}
	})
}

func TestAHeadIsTextThatPeopleCanRead(t *testing.T) {
	var file bytes.Buffer
	w, err := NewWriter(&file, Header{})
	if err != nil {
		t.Fatal(err)
	}
	e := Event{Conn: 1, What: Request}
	e.SetHead([]byte("GET <a>&b HTTP/1.1\r\n\r\n"))
	w.Write(e)
	if err := w.Flush(); err != nil || !strings.Contains(file.String(), `"head":"GET <a>&b HTTP/1.1\r\n\r\n"`) {
		t.Errorf("%v: %s", err, file.String())
	}
}

const header = `{"peerstate_recording":1,"started":"2026-01-02T03:04:05Z","to":"a:1","bodies":false}` + "\n"

func TestWhatIsNoRecordingIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "not a recording",
		"hello\n":                            "not a recording",
		"{}\n":                               "not a recording",
		strings.Repeat("x", 3<<20):           "longer than 1 MiB",
		strings.Replace(header, "1", "2", 1): "has version 2",
	} {
		if _, err := NewReader(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		"hello\n":                                                  "line 2",
		`{"conn":1,"event":"sing"}` + "\n":                         `line 2: there is no event "sing"`,
		`{"conn":0,"event":"raw"}` + "\n":                          "line 2",
		`{"conn":1,"event":"raw","length":-1}` + "\n":              "line 2",
		`{"conn":1,"event":"raw","length":1,"body":"YWI="}` + "\n": "line 2",
		`{"conn":1,"event":"connect"}`:                             ErrCutOff.Error(),
	} {
		r, err := NewReader(strings.NewReader(header + text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func TestFieldsOfLaterProgramsArePassedOver(t *testing.T) {
	r, err := NewReader(strings.NewReader(header + `{"conn":1,"event":"connect","colour":"blue"}` + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := r.Next(); err != nil || e.What != Connect {
		t.Errorf("%+v, %v", e, err)
	}
}

// full is a disk that has no room after some bytes.
type full struct{ room int }

var errFull = errors.New("no room")

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestAFullDiskIsSaidAndEndsTheRecording(t *testing.T) {
	disk := &full{room: 1000}
	w, err := NewWriter(disk, Header{})
	if err != nil {
		t.Fatal(err)
	}
	for range 10000 {
		w.Write(Event{Conn: 1, What: Connect})
	}
	disk.room = 1 << 20
	if err := w.Flush(); !errors.Is(err, errFull) {
		t.Errorf("flush: %v", err)
	}
}

// FuzzReader: whatever is in the file, reading ends, with an error that says where.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{header, header + `{"conn":1,"event":"request","head":"GET a HTTP/1.1\r\n\r\n","length":0}` + "\n", "{}\n", "\n\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := NewReader(bytes.NewReader(in))
		for lines := 0; err == nil; lines++ {
			if lines > bytes.Count(in, []byte("\n")) {
				t.Fatal("more events than lines")
			}
			_, err = r.Next()
		}
	})
}
