// Package control is the way in for commands that change something in a running sidecar, or show one
// session of it: a Unix socket that only its owner may open, or a named pipe on Windows for the service's
// account, SYSTEM and administrators. Nothing that changes something goes over TCP.
//
// What travels is HTTP, because it brings requests, errors and streams of progress with it. A command
// posts to a path, and reads lines of JSON until the end: any number of progress lines, and one that
// says how it ended. It says for which node it is meant ([Node]), and a sidecar that is another one does nothing.
package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"
)

// ErrInUse says that there is such a socket already, and somebody listens on it.
var ErrInUse = errors.New("another sidecar answers at the control socket")

// line is one line of an answer: either progress or, once, the end.
type line struct {
	Progress json.RawMessage `json:"progress,omitempty"`
	Done     bool            `json:"done,omitempty"`
	Error    string          `json:"error,omitempty"` // Done: what went wrong
}

// Handler carries out one command. It may report any number of times how far it has come, with
// anything that can be written as JSON. Its context ends when the caller goes away.
type Handler func(ctx context.Context, args url.Values, report func(any)) error

// Server answers on the control socket.
type Server struct {
	http http.Server
}

// NewServer makes a server for commands by name. self says which node this is.
func NewServer(self func() Node, commands map[string]Handler, log *slog.Logger) *Server {
	mux := http.NewServeMux()
	for name, do := range commands {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
			if me := self(); nodeFrom(r.Header).Another(me, "") != nil {
				w.WriteHeader(http.StatusMisdirectedRequest)
				_ = json.NewEncoder(w).Encode(me) // a caller that is gone is no event
				return
			}
			serve(w, r, do)
		})
	}
	return &Server{http: http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}
}

func serve(w http.ResponseWriter, r *http.Request, do Handler) {
	w.Header().Set("Content-Type", "application/jsonl")
	var mu sync.Mutex
	write := func(l line) {
		mu.Lock()
		defer mu.Unlock()
		// A caller that is gone is no event; the request's context tells the command.
		if err := json.NewEncoder(w).Encode(l); err == nil {
			_ = http.NewResponseController(w).Flush()
		}
	}
	var unsaid error // guarded by mu
	err := do(r.Context(), r.URL.Query(), func(v any) {
		data, err := json.Marshal(v)
		if err != nil {
			mu.Lock()
			unsaid = errors.Join(unsaid, err)
			mu.Unlock()
			return
		}
		write(line{Progress: data})
	})
	mu.Lock()
	err = errors.Join(err, unsaid)
	mu.Unlock()
	end := line{Done: true}
	if err != nil {
		end.Error = err.Error()
	}
	write(end)
}

// Serve answers until Shutdown, and gives nil then.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the control socket: %w", err)
	}
	return nil
}

// Shutdown lets running commands end, until ctx is done.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	return err
}

// ErrNotRunning says that no sidecar answers at the socket.
var ErrNotRunning = errors.New("no sidecar is running with these settings")

// ErrOther says that the running sidecar is of another version, which has no such command.
var ErrOther = errors.New("the running sidecar does not know the command")

// ErrForeign says that the control socket, or its directory, may have been made by somebody else.
var ErrForeign = errors.New("the control socket may be somebody else's")

// Call has the sidecar at a control socket carry out a command, if it is the node that the command is for ([AnotherError]; a
// sidecar of an older release does not look). progress is called with each report. An error of the command itself comes back as its text.
func Call(ctx context.Context, socket string, whose Node, command string, args url.Values, progress func(json.RawMessage)) error {
	if err := trusted(socket, os.Geteuid()); err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, socket) },
	}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control/"+command+"?"+args.Encode(), nil)
	if err != nil {
		return err
	}
	whose.put(r.Header)
	answer, err := client.Do(r)
	switch {
	case errors.Is(err, ErrForeign):
		return errors.Unwrap(err) // of the request's URL, which says nothing here
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the control socket %s belongs to another account: use that one, or an administrator's", socket)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w (nothing answers at %s); start it with peerstate serve or peerstate service start, or name its settings with --env-file", ErrNotRunning, socket)
	case err != nil:
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusMisdirectedRequest {
		var it Node
		if err := json.NewDecoder(io.LimitReader(answer.Body, maxLine)).Decode(&it); err != nil {
			return fmt.Errorf("read which node the sidecar is: %w", err)
		}
		if err := whose.Another(it, socket); err != nil {
			return err
		}
		return fmt.Errorf("the sidecar at %s says that it is another one than %s, and that it is %s", socket, whose, it)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%w %q (%s): it is of another version; restart it, or use the program that it runs", ErrOther, command, answer.Status)
	}
	return read(answer.Body, progress)
}

// maxLine bounds a line of an answer. The longest is the status of a farm of some hundreds of nodes.
const maxLine = 64 << 20

// read goes through the lines of an answer.
func read(body io.Reader, progress func(json.RawMessage)) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("read the sidecar's answer: %w", err)
		}
		switch {
		case l.Error != "":
			return errors.New(l.Error)
		case l.Done:
			return nil
		case progress != nil:
			progress(l.Progress)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the sidecar's answer: %w", err)
	}
	return errors.New("the sidecar ended before it had answered")
}
