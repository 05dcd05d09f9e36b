package transport

import (
	"context"
	"errors"
	"hash/maphash"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"

	"peerstate/certs"
)

// Anybody can send the first packet of a handshake. Until a certificate of the farm has been shown, whoever it is may
// hold a bounded number of connections and begin a bounded number of handshakes a second, in all and at each address.
// Past that he is turned away with the answer to his first packet, and nothing is kept of him. Nodes behind one address
// are as many as a farm has at most, so they are all let in at once. The addresses of known nodes are not
// counted at all, as far as they are proven: who floods, from wherever it is, does not keep those out that were
// linked before.

const (
	// trustedHandshakes is how many handshakes a second begin without proof of the address, for which a node takes one
	// more round trip (Retry, RFC 9000, 8.1.2); maxUnproven is how many connections of that kind there are at a time.
	trustedHandshakes = 50
	trustedBurst      = 100
	maxUnproven       = 128
	// maxStrangers bounds the connections of strangers, in all and at one address. One that is left half-open costs
	// some 50 KB for the 3 s that QUIC waits.
	maxStrangers        = 1024
	maxStrangersAddress = maxLearned
	// strangerRate is how many handshakes a second may begin, in all and at one address: each takes half a
	// millisecond of a processor. The bursts are twice the largest farm behind one address, and four times in all.
	strangerRate         = 400
	strangerBurst        = 4 * maxLearned
	strangerRateAddress  = 100
	strangerBurstAddress = 2 * maxLearned
	// strangerTime is when a place is free again, whatever became of the connection.
	strangerTime = 6*time.Second + helloTimeout
	// strangerGates is among how many counters addresses are divided, so that many addresses need no memory.
	strangerGates = 1024
)

var errTooMany = errors.New("too many connections that have not shown a certificate of this farm")

// strangers counts the connections that came in and have not shown a certificate of this farm.
type strangers struct {
	seed maphash.Seed
	all  *rate.Limiter
	free *rate.Limiter // handshakes without proof of the address

	mu       sync.Mutex
	gates    [strangerGates]*rate.Limiter
	open     int
	unproven int
	hosts    map[netip.Addr]int // connections by proven address
}

func newStrangers() *strangers {
	return &strangers{seed: maphash.MakeSeed(), hosts: map[netip.Addr]int{},
		all: rate.NewLimiter(strangerRate, strangerBurst), free: rate.NewLimiter(trustedHandshakes, trustedBurst)}
}

// addressOf is what counts as one address: of IPv6 the network, of which everybody has all addresses.
func addressOf(a net.Addr) netip.Addr {
	udp, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip := udp.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() && !ip.IsLinkLocalUnicast() && !ip.IsLoopback() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}

// mustProve tells whether an address has to be proven before a connection is made.
func (s *strangers) mustProve(net.Addr) bool {
	s.mu.Lock()
	crowded := s.unproven >= maxUnproven
	s.mu.Unlock()
	return crowded || !s.free.Allow()
}

// enter gives a connection a place, until leave is called or its time is over.
func (s *strangers) enter(host netip.Addr, proven bool) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= maxStrangers || proven && s.hosts[host] >= maxStrangersAddress {
		return nil, false
	}
	if proven { // first, so that what one address may not begin is not taken from the others
		i := maphash.Comparable(s.seed, host) % strangerGates
		if s.gates[i] == nil {
			s.gates[i] = rate.NewLimiter(strangerRateAddress, strangerBurstAddress)
		}
		if !s.gates[i].Allow() {
			return nil, false
		}
	}
	if !s.all.Allow() {
		return nil, false
	}
	if proven {
		s.hosts[host]++
	} else {
		s.unproven++ // anybody can send from anywhere: it does not count against the address
	}
	s.open++
	leave = sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
		if !proven {
			s.unproven--
		} else if s.hosts[host]--; s.hosts[host] == 0 {
			delete(s.hosts, host)
		}
	})
	return leave, true
}

// arrival is what is known of a connection that came in.
type arrival struct {
	shown atomic.Pointer[certs.Snapshot] // whose certificate it was shown
	leave func()                         // it is no stranger any more
}

// arrivalKey is where a connection that came in keeps its arrival.
type arrivalKey struct{}

func arrivalOf(ctx context.Context) *arrival {
	a, _ := ctx.Value(arrivalKey{}).(*arrival)
	return a
}

// arrives decides whether a connection is made for a first packet, and gives its context. QUIC ends that when the
// connection has ended, but not if there never was one.
func (m *Mesh) arrives(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	leave, ok := m.strangers.enter(addressOf(info.RemoteAddr), info.AddrVerified)
	if !ok {
		if !info.AddrVerified || !m.knows(info.RemoteAddr.String()) {
			m.metrics.refused.WithLabelValues(refusedHandshake).Inc()
			if m.alien.first("handshakes") {
				m.log.Warn("very many connections are begun here by somebody who has no certificate of this farm; some are turned away. Let only the farm's "+
					"nodes reach this port (firewall)", "addr", info.RemoteAddr.String())
			}
			return nil, errTooMany
		}
		leave = func() {}
	}
	a := &arrival{leave: leave}
	over := time.AfterFunc(strangerTime, leave)
	context.AfterFunc(ctx, func() {
		over.Stop()
		leave()
	})
	return context.WithValue(ctx, arrivalKey{}, a), nil
}

// knows tells whether a node was reached at an address.
func (m *Mesh) knows(addr string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		if n.direct && n.addr == addr {
			return true
		}
	}
	return false
}
