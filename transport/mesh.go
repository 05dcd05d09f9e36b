package transport

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
	"peerstate/store"
)

// alpn is the protocol of the links between nodes (RFC 7301).
const alpn = "peerstate/1"

// Config says how a mesh is to be made.
type Config struct {
	Certs *certs.Snapshot // who this node is, and whom it trusts, until SetCerts gives another
	// CertDir holds the files that Certs was read from. Documents of the farm's issuer are written there, and
	// below it (see certs.Accept).
	CertDir string
	// Issuer is the farm's, on the one node that has the CA's directory; nil: this is another node. It stays the
	// caller's to close.
	Issuer *certs.Issuer
	Store  *store.Store
	// Instance is this run of the node: random, and the same that the store has.
	Instance uint64
	// Conn is the UDP socket for all links, those that come in and those that go out. The mesh
	// closes it.
	Conn net.PacketConn
	// Peers are the addresses to link to, host:port. The names are resolved at each try.
	Peers []string
	// StateDir is where the known nodes and the stateless-reset key are kept.
	StateDir     string
	Site         string
	Program      string        // version of the program, shown to peers
	FetchTimeout time.Duration // how long a question waits for answers
	Grace        time.Duration // a node not up for this long is out
	LostAfter    time.Duration // a node out for this long is lost
	MaxBody      int64         // bytes of one session
	Backups      int           // copies of each session on other nodes, as the store makes them
	Placement    Placement     // where they should be
	Manual       bool          // link only to Peers, and to whoever dials; otherwise to all nodes
	MaxHops      int           // over how many links a question goes, at most 255; 0: 16
	// ClientOf tells who was at the other end of a connection from that port a time ago; nil: nobody knows.
	ClientOf func(port uint16, ago time.Duration) Client
	Aliases  string // digest of the aliases of application ids that are applied to keys here; "": there are none
	Log      *slog.Logger
	// calm is how often is done what is otherwise done each second or minute, for a test that goes on for a year.
	calm time.Duration
}

// Mesh is this node's links to the others. It is the store's Farm. Its methods are safe for
// concurrent use.
type Mesh struct {
	config  Config
	me      string                         // this node's name
	certs   atomic.Pointer[certs.Snapshot] // replaced under mu
	log     *slog.Logger
	store   *store.Store
	quic    *quic.Transport
	metrics *metrics
	started time.Time
	known   *knownFile
	repeats repeats
	// alien is for what strangers cause, who are without number: so they cannot keep the rest from being logged.
	alien repeats
	asked atomic.Uint64 // number of this node's last question
	seen  seen          // questions that came
	// applicants want to join.
	applicants applicants
	// sessions is how many the node held at the last tick: counting them goes through all shards.
	sessions atomic.Int64

	certifying   certifying
	rotating     rotating
	certifyGates gates         // for requests for certificates
	confirmGates gates         // and for proofs
	explaining   chan struct{} // with room for one: whoever has put something in has all keys gone through for a peer
	mistakes     mistakes

	strangers *strangers
	quotas    quotas

	farBulk atomic.Int64 // as link.bulk, over all that come through others

	changing  sync.Mutex  // held by whoever changes the files of certificates and the document
	unwritten atomic.Bool // the document in force is not on the disk

	review   chan struct{} // with room for one: backups are to be looked at
	compared chan struct{} // see Compared

	ctx    context.Context // ends when the mesh is closed
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	nodes     map[string]*node     // by name, this one not among them
	unmet     map[string]knownNode // by name: those that were named when this node joined, and that nothing was heard of since
	anchor    knownNode            // through which this node joined, with the address in Joined; or zero
	diallers  []*dialler
	conns     map[*quic.Conn]*link // all whose handshake is complete, links or not yet
	reloaded  chan struct{}        // closed when other certificates are in force, then replaced
	moments                        // the first after the start
	cast      time.Time            // since when this node takes itself to be revoked; zero: it does not
	change    chan struct{}        // closed at each change of a node's state, then replaced
	resolving map[string]bool
	unsure    bool // the store is, and all nodes are being compared with
	atlas     atlas
	rivals    map[string]rival // of which two runs are being asked, by name
	news      bool             // whom this node knows is not what its links were told
	skewed    bool             // this node's clock differs from most others'
	closed    bool
	saving    bool // the known nodes are being written
	unsaved   bool // and have changed since
}

// NewInstance makes the random number of one run of a node.
func NewInstance() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint64(b[:]) | 1
}

// New starts a mesh: it reads what was known when the node stopped, listens, and begins to dial.
// Close ends it.
func New(config Config) (*Mesh, error) {
	m := &Mesh{
		config: config, me: config.Certs.Self().Node, log: config.Log, store: config.Store, metrics: newMetrics(), started: time.Now(),
		nodes: map[string]*node{}, unmet: map[string]knownNode{}, conns: map[*quic.Conn]*link{}, reloaded: make(chan struct{}), change: make(chan struct{}),
		review: make(chan struct{}, 1), compared: make(chan struct{}), resolving: map[string]bool{}, rivals: map[string]rival{},
	}
	if m.config.MaxHops == 0 {
		m.config.MaxHops = defaultHops
	}
	m.config.MaxHops = min(m.config.MaxHops, mostHops)
	m.certs.Store(config.Certs)
	m.agreed, m.word = map[string]bool{}, make(chan struct{})
	m.atlas = newAtlas(m.me, &config)
	m.strangers = newStrangers()
	m.explaining = make(chan struct{}, 1)
	m.certifying.busy = make(chan struct{}, 1)
	m.rotating = newRotating()
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if m.known, err = openKnown(config.StateDir); err != nil {
		return nil, err
	}
	key, err := resetKey(config.StateDir)
	if err != nil {
		return nil, err
	}
	m.quic = &quic.Transport{
		Conn: config.Conn, StatelessResetKey: key,
		VerifySourceAddress: m.strangers.mustProve,
		ConnContext:         m.arrives,
	}
	listener, err := m.quic.ListenEarly(m.listenTLS(), m.quicConfig())
	if err != nil {
		return nil, fmt.Errorf("listening for peers on %s: %w", config.Conn.LocalAddr(), err)
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.mu.Lock()
	for _, addr := range config.Peers {
		m.dial(&dialler{mesh: m, addr: addr, since: m.started})
	}
	m.mu.Unlock()
	m.recall()
	m.compareWithIssuer()
	if !config.Store.Recalled() { // before anybody else may find so, and close it
		close(m.compared)
	}
	m.wg.Go(func() { m.listen(listener) })
	m.lookAround()
	m.wg.Go(m.tick)
	m.wg.Go(m.join)
	if config.CertDir != "" {
		m.wg.Go(m.keepCertified)
	}
	if config.Issuer != nil {
		m.wg.Go(m.driveRotation)
	}
	if config.Backups > 0 {
		m.wg.Go(m.backUp)
	}
	if config.Backups > 0 || config.Store.Recalled() {
		m.wg.Go(m.reviewBackups)
		m.reviewSoon()
	}
	return m, nil
}

// streamWindow bounds how many bytes of one session are on their way at a time.
const streamWindow = 8 << 20

// quicConfig: a dead peer is noticed after 5 s (quic-go takes nothing less), a machine that is off
// does not keep a dialler for long, a question is a stream, and a session of some megabytes should
// not wait for the window.
func quicConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           3 * time.Second,
		MaxIdleTimeout:                 5 * time.Second,
		KeepAlivePeriod:                time.Second,
		MaxIncomingStreams:             4096,
		MaxIncomingUniStreams:          -1,
		InitialStreamReceiveWindow:     512 << 10,
		MaxStreamReceiveWindow:         streamWindow,
		InitialConnectionReceiveWindow: 1 << 20,
		MaxConnectionReceiveWindow:     32 << 20,
	}
}

// quicConfig is that of this mesh.
func (m *Mesh) quicConfig() *quic.Config {
	c := quicConfig()
	if m.config.calm > 0 {
		c.KeepAlivePeriod, c.MaxIdleTimeout = 0, 3*m.config.calm
	}
	return c
}

// every is how often something is done.
func (m *Mesh) every(d time.Duration) time.Duration { return max(d, m.config.calm) }

// Close ends all links and waits for everything that the mesh has started. Questions that are
// under way end as not known.
func (m *Mesh) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	links := slices.Collect(maps.Values(m.conns))
	for _, n := range m.nodes {
		if n.timer != nil {
			n.timer.Stop()
			n.timer = nil
		}
	}
	m.mu.Unlock()
	for _, l := range links {
		l.close(closeBye, "the node stops")
	}
	m.cancel()
	err := m.quic.Close()
	m.wg.Wait()
	return errors.Join(err, m.config.Conn.Close())
}

// start runs f in a goroutine that Close waits for; false: the mesh is closed.
func (m *Mesh) start(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.wg.Go(f)
	return true
}

// changed tells everybody who waits that a node's state is another. m.mu is held.
func (m *Mesh) changed() {
	m.news = true
	close(m.change)
	m.change = make(chan struct{})
}

// Addr is the UDP address that the mesh listens on.
func (m *Mesh) Addr() net.Addr { return m.config.Conn.LocalAddr() }

// tick looks after links and doubts once a second.
func (m *Mesh) tick() {
	t := time.NewTicker(m.every(time.Second))
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-m.ctx.Done():
			return
		case <-t.C:
		}
		m.mu.Lock()
		var links []*link
		for _, n := range m.byName() {
			if n.link != nil {
				links = append(links, n.link)
			}
		}
		ways := m.ways()
		news := m.news
		m.news = false
		m.mu.Unlock()
		m.sessions.Store(int64(m.store.Stats().Active))
		for _, l := range links {
			l.ping()
			if news {
				m.tell(l)
			}
		}
		if n%60 == 0 {
			m.retime(links)
			m.sweep()
			m.watchQuestions()
			m.reviewMistakes()
		}
		if n%10 == 0 {
			m.writeAgain()
			m.start(m.compareWithIssuer)
		}
		for _, name := range ways {
			m.resolve(name)
		}
		m.promoteOpen()
		m.watchClock()
		m.watchAliases()
		m.watchPauses()
	}
}
