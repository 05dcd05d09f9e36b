package admin

import (
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"
	"strconv"
	"time"
)

// Page is what the status page shows, besides what it keeps of its earlier questions; and what "peerstate status" does.
type Page struct {
	Now           time.Time   `json:"now"`
	Run           string      `json:"run"`    // another one after a restart
	Reason        string      `json:"reason"` // why it is not ready; empty: it is
	Warnings      []string    `json:"warnings"`
	Status        Status      `json:"status"`
	Mesh          string      `json:"mesh"`           // auto or manual; empty: stand-alone
	WantedBackups int         `json:"wanted_backups"` // PEERSTATE_BACKUPS
	Keepers       int         `json:"keepers"`        // other nodes that can keep backups now
	Connections   int         `json:"connections"`    // of web servers
	Issuer        bool        `json:"issuer"`         // this node is the farm's issuer
	RotationTo    string      `json:"rotation_to"`    // key id of the CA that remains, while it is replaced
	RotationDone  string      `json:"rotation_self"`  // as Peer.Rotation, of this node
	EverySeconds  float64     `json:"every_seconds"`  // between samples
	Samples       []Sample    `json:"samples"`
	Contended     []Contended `json:"contended"`
	ContendedOver float64     `json:"contended_seconds"` // over which time they are counted
	Events        []Event     `json:"events"`            // the newest first
}

// Contended is a session whose lock requests have met.
type Contended struct {
	Hash      string  `json:"hash"` // short, of its key, as in the log
	Met       uint64  `json:"met"`
	WaitedMS  float64 `json:"waited_ms"` // in all
	LongestMS float64 `json:"longest_ms"`
	Waiting   int     `json:"waiting"`   // now
	LockedMS  float64 `json:"locked_ms"` // for how long it has been; 0: it is not, or not here
}

// complete makes [] in JSON of what would be null.
func (p *Page) complete() {
	p.Status.complete()
	if p.Samples == nil {
		p.Samples = []Sample{}
	}
	if p.Events == nil {
		p.Events = []Event{}
	}
	if p.Warnings == nil {
		p.Warnings = []string{}
	}
	if p.Contended == nil {
		p.Contended = []Contended{}
	}
}

// pageData answers the page's questions. With ?after=N there are only the samples after the one numbered N.
func pageData(s Source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		after, err := strconv.ParseInt(r.FormValue("after"), 10, 64)
		if err != nil {
			after = 0
		}
		p := s.Page(after)
		p.complete()
		body, err := json.Marshal(p)
		writeJSON(w, body, err)
	}
}

//go:embed page
var pageFiles embed.FS

// pagePolicy lets the page load its own files and ask this listener, and nothing else. Trusted types make the browser
// refuse to read any text as HTML, so that what comes from peers cannot become more than text.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// page serves the files of the page. They belong to this version of the program and change with it, so they are not
// cached (guard.go).
func page(mux *http.ServeMux) {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic(err) // the name is a constant
	}
	serve := http.FileServerFS(files)
	policed := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", pagePolicy)
		serve.ServeHTTP(w, r)
	}
	mux.HandleFunc("/{$}", policed)
	names, err := fs.ReadDir(files, ".")
	if err != nil {
		panic(err)
	}
	for _, f := range names {
		if f.Name() != "index.html" {
			mux.HandleFunc("/"+f.Name(), policed)
		}
	}
}
