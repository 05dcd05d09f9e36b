package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A node is killed, as for want of memory, while a big session comes to it: half of it has arrived. The
// giver has it still, and so has who was killed when it is back.
func TestANodeKilledInTheMiddleOfABigSessionLosesNothing(t *testing.T) {
	t.Parallel()
	d := newFarm(t).draw("london tokyo paris", fullMesh(3), "PEERSTATE_MISSING_GRACE=1s", "PEERSTATE_BACKUPS=0")
	london, tokyo, paris := d.nodes[0], d.nodes[1], d.nodes[2]
	const size = 16 << 20
	big := strings.Repeat("cart", size/4)
	london.want(200, "", "PUT", "big", big)
	ids := []string{"big"}
	for i := range 10 {
		ids = append(ids, fmt.Sprint("small", i))
		paris.want(200, "", "PUT", fmt.Sprint("small", i), "cart")
	}

	way := d.link(london, tokyo)
	way.set(rules{delay: 20 * time.Millisecond}) // long enough to be met on its way
	before := way.passed.Load()
	w := tokyo.connect()
	asked := make(chan error, 1)
	go func() {
		_, err := w.request("GET", "big", "")
		asked <- err
	}()
	d.until("half on its way", func() bool { return way.passed.Load() > before+size/4 })
	tokyo.kill()
	if got := way.passed.Load() - before; got >= size {
		t.Logf("all of it was sent before the node was killed: %d bytes", got)
	}
	if err := <-asked; err != nil {
		t.Errorf("the client of the killed node: %v", err)
	}
	for i := range 10 {
		paris.want(200, "cart", "GET", fmt.Sprint("small", i), "")
	}
	way.set(rules{})
	tokyo.restart()
	d.linked(d.nodes...)
	for _, n := range []*node{london, tokyo, paris} {
		n.served("big", big)
	}
	d.heldOnce(ids...)
}
