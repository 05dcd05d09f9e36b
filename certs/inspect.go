package certs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Report is what a directory holds, as far as it can be read, and whether it can be used.
type Report struct {
	Farm        string
	Node        *Peer        // what node.crt says, true or not; nil if there is none that can be read
	Authorities []Authority  // what ca.crt trusts
	Signing     string       // KeyID of the authority that issues from here; empty if there is none
	Document    *Document    // what the farm's issuer has said last; nil if there is none that can be believed
	Invitations []Invitation // of nodes that may join, sorted
	Problems    []error      // why it cannot be used, each in one line with what to do
	Warnings    []string     // what to do something about soon
}

// Inspect looks at a CA directory or a node's directory (or one that is both) and changes nothing. It
// fails if there is no such directory, or nothing of ours in it.
func Inspect(dir string, now time.Time) (*Report, error) {
	if _, err := os.ReadDir(dir); err != nil {
		advice := "name the directory of a node or of a CA"
		if errors.Is(err, fs.ErrPermission) {
			advice = "use the account that runs peerstate, or an administrator's"
		}
		return nil, fmt.Errorf("%s: it cannot be looked into: %w; %s", dir, bare(err), advice)
	}
	has := func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return !errors.Is(err, fs.ErrNotExist)
	}
	if !has(CACert) && !has(CAKey) && !has(NodeCert) && !has(NodeKey) {
		return nil, fmt.Errorf("the directory %s holds no certificates: no %s, %s, %s or %s; name that of a node or of a CA", dir, CACert, CAKey, NodeCert, NodeKey)
	}
	r := &Report{}
	r.readAuthorities(dir)
	if has(CAKey) {
		r.inspectCA(dir, now)
	}
	if has(NodeCert) || has(NodeKey) || !has(CAKey) {
		r.inspectNode(dir, now)
	}
	return r, nil
}

// readAuthorities takes what it can get: whoever uses the files reports what is wrong with them.
func (r *Report) readAuthorities(dir string) {
	trust, err := loadBundle(dir, "")
	if err != nil {
		return
	}
	r.Farm = trust.farm
	r.Authorities = trust.authorities()
	if d, _, err := loadDocument(dir, trust); err == nil && d != nil {
		r.Document = d
	} else if d, err := readDocument(filepath.Join(dir, DocumentFile)); err == nil && d != nil && d.signedByAny(trust) { // a CA's
		r.Document = d
	}
}

func (r *Report) inspectCA(dir string, now time.Time) {
	path := filepath.Join(dir, CACert)
	ca, err := LoadCA(dir)
	if err != nil {
		r.Problems = append(r.Problems, err)
	} else {
		a := ca.Authority()
		r.Signing = a.KeyID
		if err := checkTime(ca.cert, "the CA", now); err != nil {
			r.Problems = append(r.Problems, broken(path, "create a new CA with \"peerstate cert init\", and issue new certificates for all nodes", "%w", err))
		}
		r.warnOfEnd(path, "the CA", a.From, a.Expires, now)
	}
	if v, err := readInvitations(caDir{path: dir}); err != nil {
		r.Problems = append(r.Problems, err)
	} else {
		r.Invitations = v.shown(now)
	}
	r.warnOfReaders(dir, CAKey)
	r.warnOfReaders(dir, caNextKey)
}

func (r *Report) inspectNode(dir string, now time.Time) {
	path := filepath.Join(dir, NodeCert)
	if data, err := read(path, ""); err == nil {
		if cert, err := parseNode(path, data); err == nil {
			id, _ := identityOf(cert) // the zero Identity if it has none, which Load is about to report
			peer := peerOf(cert, id)
			r.Node = &peer
		}
	}
	changing.Lock()
	s, unfinished, err := look(dir, now)
	changing.Unlock()
	for _, path := range unfinished {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s: replacing it was interrupted; the node completes that when it starts", path))
	}
	if err != nil {
		r.Problems = append(r.Problems, err)
	} else {
		self := s.Self()
		r.Node = &self
		r.warnOfEnd(path, "the certificate", self.From, self.Expires, now)
	}
	r.warnOfReaders(dir, NodeKey)
}

// warnOfEnd warns 30 days ahead, or when a quarter of the life is left if that is less.
func (r *Report) warnOfEnd(path, what string, from, end, now time.Time) {
	ahead := min(30*24*time.Hour, end.Sub(from)/4)
	if left := end.Sub(now); left >= 0 && left < ahead {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s: %s ends soon, on %s; replace it before that day", path, what, stamp(end)))
	}
}

func (r *Report) warnOfReaders(dir, name string) {
	path := filepath.Join(dir, name)
	who, err := Exposure(path)
	switch {
	case errors.Is(err, fs.ErrNotExist): // which is a problem, and reported as such
	case err != nil:
		r.Warnings = append(r.Warnings, err.Error())
	case who != "":
		r.Warnings = append(r.Warnings, path+": "+who)
	}
}
