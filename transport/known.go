package transport

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
)

const (
	nodesFile = "nodes.json"
	resetFile = "reset.key"
)

// knownNode is a node as nodes.json remembers it.
type knownNode struct {
	Node  string    `json:"node"`
	Site  string    `json:"site,omitempty"`
	Addr  string    `json:"addr,omitempty"`
	State State     `json:"state"`
	Since time.Time `json:"since"`
	// Cert is its certificate, as it was up last; nil: not known.
	Cert *certRef `json:"cert,omitempty"`
	// Linked: it had a link of its own once. Where the operator draws the links, others get none after a restart either.
	Linked bool `json:"linked,omitempty"`
	// Unmet: the farm's issuer has named it when this node joined, and nothing was heard of it since.
	Unmet bool `json:"unmet,omitempty"`
	// Joined is the address at which this node has asked it to join; empty: it was another.
	Joined string `json:"joined,omitempty"`
}

// knownFile keeps nodes.json: who was known, and in which state, when the node stopped. A node that
// starts must not call a session missing before it has heard those who may hold it.
type knownFile struct {
	path string
	mu   sync.Mutex
	last string // what was written last
}

func openKnown(dir string) (*knownFile, error) {
	if err := certs.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("making the directory where the known nodes are kept: %w", err)
	}
	return &knownFile{path: filepath.Join(dir, nodesFile)}, nil
}

// read gives what was known; nothing, if there is no file yet.
func (f *knownFile) read() ([]knownNode, error) {
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []knownNode
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return all, nil
}

func (f *knownFile) write(all []knownNode) error {
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if string(data) == f.last {
		return nil
	}
	if err := certs.WriteFile(f.path, append(data, '\n')); err != nil {
		return err
	}
	f.last = string(data)
	return nil
}

// recall brings back who was known when the node stopped. Those that were not lost then count as just
// gone.
func (m *Mesh) recall() {
	all, err := m.known.read()
	if err != nil {
		m.log.Error("the file of known nodes cannot be read; sessions on nodes that are not in PEERSTATE_PEERS are not waited for",
			"error", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range all {
		if k.Joined != "" && certs.ValidName(k.Node) == nil && k.Node != m.me {
			m.anchor = knownNode{Node: k.Node, Joined: plain(k.Joined)}
		}
	}
	if m.anchored() {
		m.dial(&dialler{mesh: m, addr: m.anchor.Joined, told: m.anchor.Node, since: m.started})
	}
	for _, k := range all {
		if certs.ValidName(k.Node) != nil || k.Node == m.me {
			continue
		}
		if k.Unmet {
			m.unmet[k.Node] = k
			continue
		}
		n := m.node(k.Node)
		n.site, n.addr, n.reason = plain(k.Site), plain(k.Addr), "not linked yet since the start"
		if k.Cert.check() == nil && k.Cert != nil {
			n.peer = k.Cert.peer(certs.Identity{Farm: m.certs.Load().Self().Farm, Node: n.name})
		}
		if n.cut = m.isRevoked(n); n.cut {
			n.state, n.since, n.reason = Lost, k.Since, revokedText
			continue
		}
		if k.State == Lost || k.State == Drained {
			n.state, n.since, n.reason = k.State, k.Since, "since before the start of this node"
			continue
		}
		if n.direct = k.Linked; n.addr != "" && (n.direct || !m.config.Manual) {
			m.others = append(m.others, n.name)
		}
		m.await(n, m.config.Grace, Out)
		if n.addr != "" {
			m.dialLearned(n.name, n.addr)
		}
	}
	m.dialUnmet()
}

// dialUnmet dials those that were named when this node joined. They are like addresses in the settings: it is
// tried until they are linked, or forgotten, and they are waited for the grace time once. m.mu is held.
func (m *Mesh) dialUnmet() {
	if m.config.Manual {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(m.unmet)) {
		k := m.unmet[name]
		if k.Addr == "" || slices.ContainsFunc(m.diallers, func(d *dialler) bool { return d.addr == k.Addr }) {
			continue
		}
		m.dial(&dialler{mesh: m, addr: plain(k.Addr), told: name, since: m.started})
	}
}

// anchored tells whether the node that this one joined through stands for the settings, because they name nobody:
// it is always dialled, as those are, and where the operator draws the links it is the only one. m.mu is held.
func (m *Mesh) anchored() bool { return m.anchor.Node != "" && len(m.config.Peers) == 0 }

// saveNodes has the known nodes written to disk, soon and by somebody else: m.mu is held.
func (m *Mesh) saveNodes() {
	if m.saving || m.closed {
		m.unsaved = true
		return
	}
	m.saving = true
	m.wg.Go(func() {
		for {
			m.mu.Lock()
			m.unsaved = false
			all := m.toRemember()
			m.mu.Unlock()
			if err := m.known.write(all); err != nil {
				m.log.Error("the known nodes cannot be written to disk; after a restart this node may not wait for them", "error", err)
			}
			m.mu.Lock()
			if !m.unsaved {
				m.saving = false
				m.mu.Unlock()
				return
			}
			m.mu.Unlock()
		}
	})
}

// toRemember lists the nodes for nodes.json, by name. m.mu is held.
func (m *Mesh) toRemember() []knownNode {
	all := make([]knownNode, 0, len(m.nodes)+len(m.unmet))
	for _, n := range m.nodes {
		k := knownNode{Node: n.name, Site: n.site, Addr: n.addr, State: n.state, Since: n.since.UTC().Truncate(time.Second), Linked: n.direct}
		if n.peer.Serial != "" {
			k.Cert = refTo(n.peer)
		}
		if n.name == m.anchor.Node {
			k.Joined = m.anchor.Joined
		}
		all = append(all, k)
	}
	for _, k := range m.unmet {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b knownNode) int { return cmp.Compare(a.Node, b.Node) })
	return all
}

// resetKey gives the key from which the stateless resets of this node's links are made (RFC 9000,
// 10.3): with it, peers notice at once that the node has started anew. It is made at the first start.
func resetKey(dir string) (*quic.StatelessResetKey, error) {
	path := filepath.Join(dir, resetFile)
	var key quic.StatelessResetKey
	data, err := os.ReadFile(path)
	switch {
	case err == nil && len(data) == len(key):
		copy(key[:], data)
		return &key, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("reading the key for stateless resets: %w", err)
	}
	rand.Read(key[:]) // never fails (crypto/rand)
	if err := certs.WriteFile(path, key[:]); err != nil {
		return nil, fmt.Errorf("writing the key for stateless resets: %w", err)
	}
	return &key, nil
}
