package transport

import (
	"crypto/rand"
	"net"
	"time"
)

// knockFor is how long knock waits for an answer to its last packet.
const knockFor = time.Second

// knock finds out more about an address at which no handshake came about. A packet of a version of QUIC that nobody speaks
// is answered by whoever speaks another (RFC 9000, 6.1); and a socket that is connected hears when the other
// machine says that the port is closed (ICMP), if firewalls let that through.
func knock(to *net.UDPAddr) error {
	conn, err := net.DialUDP("udp", nil, to)
	if err != nil {
		return ErrNoAnswer // no route there
	}
	defer conn.Close() // it was only a look
	hearResets(conn)
	for pause := range 3 { // a packet may get lost
		if err := conn.SetReadDeadline(time.Now().Add(knockFor / 4 * time.Duration(1+pause))); err != nil {
			return ErrNoAnswer
		}
		_, err := conn.Write(strangePacket())
		if err == nil {
			_, err = conn.Read(make([]byte, 1500))
		}
		switch {
		case err == nil:
			return ErrNoHandshake
		case portClosed(err):
			return ErrNobody
		}
	}
	return ErrNoAnswer
}

// strangePacket is a long-header packet of a reserved version (RFC 9000, 15 and 17.2), as long as a first one has
// to be.
func strangePacket() []byte {
	p := make([]byte, 1200)
	rand.Read(p) // never fails (crypto/rand)
	p[0] |= 0xc0 // long header, fixed bit
	copy(p[1:], []byte{0x1a, 0x2a, 0x3a, 0x4a, 8})
	p[14] = 8 // length of the source's connection id, behind the 8 bytes of the destination's
	return p
}
