package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"peerstate/certs"
)

// Every node knows the map of the farm's links. Each passes its own list on to its links when it changes,
// with a version, and passes on the lists of others that are newer than what it had; so old news never
// replaces newer, and nothing goes round in circles. In a full mesh every list comes from its origin, and
// none is passed on.

// linkList is whom a node is linked with, by its own word.
type linkList struct {
	Node     string   `cbor:"1,keyasint"`
	Instance uint64   `cbor:"2,keyasint"`
	Version  uint64   `cbor:"3,keyasint"`           // higher with each change; it begins with the clock (ns since 1970), and so is higher after a restart
	Links    []string `cbor:"4,keyasint,omitempty"` // names, sorted
	Left     bool     `cbor:"5,keyasint,omitempty"` // it stops, and holds no session any more
	Cert     *certRef `cbor:"6,keyasint,omitempty"` // of this node; never changed, only replaced
	Number   uint64   `cbor:"7,keyasint,omitempty"` // of the farm's document that is in force there; 0: none
	Issuer   bool     `cbor:"8,keyasint,omitempty"` // it is the farm's issuer
	Speaks   int      `cbor:"9,keyasint,omitempty"` // the highest version of the protocol that it knows; 0: 1
	// Trips are the round-trip times of Links, for those who look at the farm (picture.go): in tenths of a millisecond, about as
	// they are; empty: not told.
	Trips   []uint32 `cbor:"11,keyasint,omitempty"`
	Program string   `cbor:"12,keyasint,omitempty"` // version of its program
	Aliases string   `cbor:"13,keyasint,omitempty"` // digest of its aliases of application ids
}

// certRef is what tells a node's certificate from others, by its own word.
type certRef struct {
	Serial    string `cbor:"1,keyasint" json:"serial"`
	IssuerKey string `cbor:"2,keyasint" json:"issuer"`
	Key       string `cbor:"3,keyasint" json:"key"`
	Issued    int64  `cbor:"4,keyasint" json:"issued"`  // ns since 1970
	Expires   int64  `cbor:"5,keyasint" json:"expires"` // ns since 1970
}

func refTo(p certs.Peer) *certRef {
	return &certRef{Serial: p.Serial, IssuerKey: p.IssuerKey, Key: p.Key, Issued: p.Issued.UnixNano(), Expires: p.Expires.UnixNano()}
}

// peer gives what is known of the certificate of a node; only its name, if that has said nothing.
func (c *certRef) peer(id certs.Identity) certs.Peer {
	p := certs.Peer{Identity: id}
	if c != nil {
		p.Serial, p.IssuerKey, p.Key = c.Serial, c.IssuerKey, c.Key
		p.Issued, p.Expires = time.Unix(0, c.Issued), time.Unix(0, c.Expires)
	}
	return p
}

// check finds what stands in no certificate: text that cannot be shown, or is too long.
func (c *certRef) check() error {
	if c == nil {
		return nil
	}
	for _, s := range []string{c.Serial, c.IssuerKey, c.Key} {
		if len(s) > maxRef || strings.Trim(s, "0123456789abcdef-") != "" {
			return fmt.Errorf("%w: a certificate %q", errFrame, plain(s))
		}
	}
	return nil
}

// maxRef bounds a number or the name of a key in hexadecimal.
const maxRef = 128

// listAhead is how far the version of a list may be ahead of this node's clock. One beyond it is passed over:
// a forged one could otherwise never be replaced by a true one.
const listAhead = 24 * time.Hour

func (ll *linkList) has(name string) bool {
	if ll == nil {
		return false
	}
	_, ok := slices.BinarySearch(ll.Links, name)
	return ok
}

// check finds lists that no node sends.
func (ll *linkList) check() error {
	if len(ll.Links) > maxLearned || certs.ValidName(ll.Node) != nil {
		return fmt.Errorf("%w: a list of %d links of %q", errFrame, len(ll.Links), plain(ll.Node))
	}
	ll.Program = plain(ll.Program)
	for i, name := range ll.Links {
		if certs.ValidName(name) != nil || i > 0 && name <= ll.Links[i-1] || name == ll.Node {
			return fmt.Errorf("%w: a link to %q", errFrame, plain(name))
		}
	}
	if len(ll.Trips) > 0 && len(ll.Trips) != len(ll.Links) {
		return fmt.Errorf("%w: %d round-trip times of %d links", errFrame, len(ll.Trips), len(ll.Links))
	}
	if err := checkAliases(ll.Aliases); err != nil {
		return err
	}
	return ll.Cert.check()
}

// atlas is the map of the farm's links. Mesh.mu guards it.
type atlas struct {
	mine  linkList
	lists map[string]*linkList // of the others, by name; never changed, only replaced
	drawn time.Time            // when the ways were last worked out
	again bool                 // they will be soon
}

func newAtlas(me string, c *Config) atlas {
	return atlas{mine: linkList{Node: me, Instance: c.Instance, Version: uint64(max(time.Now().UnixNano(), 0)), Issuer: c.Issuer != nil, Speaks: maxVersion,
		Program: plain(c.Program), Aliases: c.Aliases},
		lists: map[string]*linkList{}}
}

// list gives the newest list of a node; nil: there is none.
func (a *atlas) list(name string) *linkList {
	if name == a.mine.Node {
		mine := a.mine
		return &mine
	}
	return a.lists[name]
}

// both tells whether both ends report a link.
func (a *atlas) both(x, y string) bool { return a.list(x).has(y) && a.list(y).has(x) }

// relist changes this node's own list, and has it told, if something in it is another. m.mu is held.
func (m *Mesh) relist(links []*link) {
	links = links[:min(len(links), maxLearned)]
	names, trips := make([]string, 0, len(links)), make([]uint32, 0, len(links))
	for _, l := range links {
		names, trips = append(names, l.node.name), append(trips, l.trip())
	}
	mine, now := &m.atlas.mine, m.certs.Load()
	cert, number := refTo(now.Self()), now.DocumentNumber()
	if slices.Equal(names, mine.Links) && mine.Cert != nil && *mine.Cert == *cert && mine.Number == number && !tripsDiffer(mine.Trips, trips) {
		return
	}
	mine.Links, mine.Trips, mine.Cert, mine.Number = names, trips, cert, number
	m.renew()
}

// renew gives this node's own list a new version. m.mu is held.
func (m *Mesh) renew() {
	m.atlas.mine.Version++
	m.spread(&m.atlas.mine, nil)
}

// spread has a list told to the links but for the one that it came from, its origin, and those that
// hear it from the origin. m.mu is held.
func (m *Mesh) spread(ll *linkList, from *link) {
	for _, n := range m.byName() {
		if n.link != nil && n.link != from && m.concerns(n.link, ll) {
			m.tellSoon(n.link, ll.Node)
		}
	}
}

// concerns tells whether a link has to be told of a list. m.mu is held.
func (m *Mesh) concerns(l *link, ll *linkList) bool {
	name := l.node.name
	return ll.Node == m.me || ll.Node != name && !m.atlas.both(ll.Node, name)
}

// chart tells a new link all lists that it does not hear from their origins. m.mu is held.
func (m *Mesh) chart(l *link) {
	m.tellSoon(l, m.me)
	for _, ll := range m.atlas.lists {
		if m.concerns(l, ll) {
			m.tellSoon(l, ll.Node)
		}
	}
}

// tellSoon has a list told over a link, in its newest version by then. m.mu is held.
func (m *Mesh) tellSoon(l *link, origin string) {
	if m.closed || l.conn.Context().Err() != nil {
		return
	}
	if l.untold == nil {
		l.untold = map[string]bool{}
	}
	l.untold[origin] = true
	if l.told == nil {
		l.told = make(chan struct{})
		m.wg.Go(l.tellLinks)
	}
}

// tellLinks tells what is to be told until that is nothing.
func (l *link) tellLinks() {
	m := l.mesh
	for {
		m.mu.Lock()
		var batch []linkList
		for _, name := range slices.Sorted(maps.Keys(l.untold)) {
			if ll := m.atlas.list(name); ll != nil {
				batch = append(batch, *ll)
			}
		}
		if len(batch) == 0 || m.closed {
			clear(l.untold)
			close(l.told)
			l.told = nil
			m.mu.Unlock()
			return
		}
		clear(l.untold)
		m.mu.Unlock()
		err := l.sendLists(batch)
		if err == nil {
			continue
		}
		m.log.Debug("lists of links could not be told", "peer", l.node.name, "error", err)
		t := time.NewTimer(time.Second)
		select {
		case <-t.C:
			m.mu.Lock()
			for _, ll := range batch {
				l.untold[ll.Node] = true
			}
			m.mu.Unlock()
		case <-l.conn.Context().Done(): // a new link is told everything
			t.Stop()
		}
	}
}

func (l *link) sendLists(batch []linkList) error {
	s, err := l.open(l.mesh.ctx)
	if err != nil {
		return err
	}
	defer s.end()
	for _, ll := range batch {
		if err := s.SetWriteDeadline(time.Now().Add(stall)); err != nil {
			return err
		}
		if err := writeFrame(s, kindLinks, ll); err != nil {
			return err
		}
	}
	l.mesh.finish(l, s)
	return nil
}

// allTold waits until everything was told over a link.
func (l *link) allTold(ctx context.Context) {
	l.mesh.mu.Lock()
	told := l.told
	l.mesh.mu.Unlock()
	if told == nil {
		return
	}
	select {
	case <-told:
	case <-l.conn.Context().Done():
	case <-ctx.Done():
	}
}

// serveLists takes lists in, one after the other.
func (l *link) serveLists(s *stream, header []byte) error {
	for {
		var ll linkList
		if err := decode(header, &ll); err != nil {
			return err
		}
		if err := ll.check(); err != nil {
			return err
		}
		if err := s.link.quota.lists.Wait(s.Context()); err != nil {
			return err
		}
		l.mesh.heard(l, &ll)
		if err := s.SetReadDeadline(time.Now().Add(stall)); err != nil {
			return err
		}
		k, next, err := readFrame(s)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case k != kindLinks:
			return fmt.Errorf("%w: kind %d among lists of links", errFrame, k)
		}
		header = next
	}
}

// heard takes a list in that is newer than what was known, and passes it on.
func (m *Mesh) heard(l *link, ll *linkList) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || ll.Version > uint64(max(time.Now().Add(listAhead).UnixNano(), 0)) || m.refuses(ll) {
		return
	}
	if ll.Node == m.me {
		// Of an earlier run of this node, whose clock was ahead: the one in force has to be newer.
		if mine := &m.atlas.mine; ll.Version > mine.Version || ll.Version == mine.Version && ll.Instance != mine.Instance {
			mine.Version = ll.Version
			m.renew()
		}
		return
	}
	m.contested(l, ll)
	old := m.atlas.lists[ll.Node]
	if old != nil && l.node.name == ll.Node && (ll.Version < old.Version || ll.Instance != old.Instance && ll.Version == old.Version) {
		m.tellSoon(l, ll.Node) // it began with a clock that is behind that of an earlier run
		return
	}
	if old != nil && ll.Version <= old.Version || old == nil && !m.roomFor() {
		return
	}
	m.atlas.lists[ll.Node] = ll
	m.spread(ll, l)
	if ll.Issuer && (old == nil || !old.Issuer) {
		m.changed() // somebody may wait for it
	}
	if old == nil || old.Instance != ll.Instance || old.Left != ll.Left || !slices.Equal(old.Links, ll.Links) {
		m.remapSoon()
	}
}

// remapEvery is how often at most the ways are worked out anew for what others tell.
const remapEvery = 20 * time.Millisecond

// remapSoon works the ways out anew, at once or with what else comes meanwhile. m.mu is held.
func (m *Mesh) remapSoon() {
	since := time.Since(m.atlas.drawn)
	if m.atlas.again {
		return
	}
	if since >= remapEvery {
		m.remap()
		return
	}
	m.atlas.again = true
	time.AfterFunc(remapEvery-since, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.atlas.again = false
		m.remap()
	})
}

// roomFor makes room for the list of one more node: that of a node to which no path leads can go. m.mu is
// held.
func (m *Mesh) roomFor() bool {
	if len(m.atlas.lists) < maxLearned {
		return true
	}
	for name := range m.atlas.lists {
		if n := m.nodes[name]; n == nil || n.way() == nil {
			delete(m.atlas.lists, name)
			return true
		}
	}
	return false
}

// leave says in this node's list that it stops and holds nothing, and waits until the links know,
// a second at most.
func (m *Mesh) leave(ctx context.Context) {
	m.mu.Lock()
	m.atlas.mine.Left = true
	m.renew()
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, l := range m.takers(nil) {
		l.allTold(ctx)
	}
}
