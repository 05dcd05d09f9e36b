package transport

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
)

// issuedFarm is a farm in which one machine has the CA's directory.
type issuedFarm struct {
	*farm
	host   string        // the issuer's
	life   time.Duration // of what it issues
	issuer *certs.Issuer
}

// issued makes the node on a machine the issuer, whenever it is started.
func (f *farm) issued(host string, life time.Duration) *issuedFarm {
	f.t.Helper()
	i := &issuedFarm{farm: f, host: host, life: life}
	before := f.config
	f.config = func(c *Config) {
		if before != nil {
			before(c)
		}
		if c.CertDir == filepath.Join(f.dir, host) {
			i.close()
			var err error
			if i.issuer, err = certs.OpenIssuer(i.caDir(), life, time.Now()); err != nil {
				f.t.Fatal(err)
			}
			c.Issuer = i.issuer
		}
	}
	f.t.Cleanup(i.close)
	return i
}

func (i *issuedFarm) caDir() string { return filepath.Join(i.dir, "ca") }

// close lets go of the CA's directory, as a process does that ends.
func (i *issuedFarm) close() {
	if i.issuer == nil {
		return
	}
	if err := i.issuer.Close(); err != nil {
		i.t.Error(err)
	}
	i.issuer = nil
}

// crash ends the issuer's node without a word, and lets go of the CA's directory.
func (i *issuedFarm) crash() {
	i.nodes[i.host].kill()
	i.close()
}

func serialOf(n *testNode) string { return n.mesh.Certs().Self().Serial }

// onDisk fails unless the node would start with what it runs with.
func (n *testNode) onDisk() {
	n.farm.t.Helper()
	s, err := certs.Load(n.files(), time.Now())
	if err != nil {
		n.farm.t.Error(err)
	} else if !s.Same(n.mesh.Certs()) {
		n.farm.t.Errorf("%s runs with the certificate %s, document %d, and has %s, %d on the disk",
			n.name, serialOf(n), n.mesh.Certs().DocumentNumber(), s.Self().Serial, s.DocumentNumber())
	}
}

func TestANodeRenewsItsCertificateAtTwoThirdsOfItsLife(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		const life = 3 * time.Hour
		f.config = func(c *Config) { c.calm = time.Minute }
		f.issued("a", life)
		var nodes []*testNode
		for i, name := range []string{"a", "b", "c"} {
			f.issue(name, life)
			nodes = append(nodes, f.startOn(name, []string{"a", "b"}[:min(i, 2)]...))
		}
		f.linked(nodes...)
		since := len(f.log.String())
		serials := map[string]string{}
		for _, n := range nodes {
			serials[n.name] = serialOf(n)
		}
		time.Sleep(life*2/3 - life/20 - time.Minute)
		for _, n := range nodes {
			if serialOf(n) != serials[n.name] {
				t.Errorf("%s has renewed too early", n.name)
			}
		}
		time.Sleep(life/20 + 3*time.Minute)
		for _, n := range nodes {
			self := n.mesh.Certs().Self()
			if self.Serial == serials[n.name] || time.Until(self.Expires) < life-life/20-4*time.Minute {
				t.Errorf("%s has not renewed: %+v", n.name, self)
			}
			n.onDisk()
			f.wantLogged(n.host, "this node has a new certificate")
		}
		f.renewed(2*time.Second, nodes...)
		f.quiet(since)
	})
}

func TestEachNodeHasItsOwnMomentToRenew(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		moments := map[time.Duration]bool{}
		for range 30 {
			dir := filepath.Join(t.TempDir(), "n")
			if _, err := f.ca.Issue(dir, "n", 90*day, time.Now()); err != nil {
				t.Fatal(err)
			}
			s, err := certs.Load(dir, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			due, _ := renewalTime(s)
			d := time.Until(due)
			if d < 55*day || d > 60*day {
				t.Errorf("due in %v", d)
			}
			if again, _ := renewalTime(s); again != due {
				t.Error("not the same moment the second time")
			}
			moments[d.Round(time.Hour)] = true
		}
		if len(moments) < 15 {
			t.Errorf("30 nodes renew at %d moments", len(moments))
		}
	})
}

func TestANodeBehindOthersIsGivenACertificateThroughThem(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.config = func(c *Config) { c.Manual = true }
		i := f.issued("a", time.Hour)
		_ = i
		d := &drawn{farm: f, topology: line(4)}
		for n := range d.size {
			d.all = append(d.all, f.start(nodeName(n), d.peersOf(n)...))
		}
		d.reached()
		last := d.all[3]
		was := serialOf(last)
		peer, err := last.mesh.RenewNow(context.Background())
		if err != nil || peer.Serial == was || peer.Node != "d" || serialOf(last) != peer.Serial {
			t.Fatalf("%+v, %v", peer, err)
		}
		last.onDisk()
		f.renewed(2*time.Second, d.all...)
		// The answer is the same for the issuer's own node.
		if peer, err := d.all[0].mesh.RenewNow(context.Background()); err != nil || peer.Node != "a" || serialOf(d.all[0]) != peer.Serial {
			t.Errorf("%+v, %v", peer, err)
		}
	})
}

func TestWithoutAnIssuerANodeSaysWhatToDo(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a, b := f.start("a"), f.start("b", "a")
		f.linked(a, b)
		_, err := b.mesh.RenewNow(context.Background())
		if !errors.Is(err, ErrNoIssuer) || !strings.Contains(err.Error(), "peerstate cert issue") {
			t.Errorf("%v", err)
		}
	})
}

// A certificate made by hand that lasts for long is nobody's business before its last month; then it is said more
// and more often, and at last what to do.
func TestACertificateThatNobodyRenewsIsWarnedOfMoreAndMoreOften(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.config = func(c *Config) { c.calm = 10 * time.Minute }
		f.issue("a", 200*day)
		f.startOn("a")
		said := func() int { return len(f.log.lines("a", "this node's certificate could not be renewed")) }
		time.Sleep(169 * day)
		if n := said(); n != 0 {
			t.Errorf("%d lines a month before", n)
		}
		time.Sleep(11 * day)
		early := said()
		if early < 5 || early > 15 {
			t.Errorf("%d lines in the first eleven days of the last month", early)
		}
		time.Sleep(20*day - time.Hour)
		if n := said() - early; n < 2*early || n > 150 {
			t.Errorf("%d lines in the last days, after %d", n, early)
		}
		if n := len(f.log.lines("a", "level=ERROR", "could not be renewed")); n == 0 || n == said() {
			t.Errorf("%d of %d lines are errors", n, said())
		}
		time.Sleep(3 * time.Hour)
		if n := len(f.log.lines("a", "level=ERROR", "has ended", "peerstate cert issue", "peerstate cert token")); n < 1 || n > 4 {
			t.Errorf("%d lines when it has ended", n)
		}
	})
}

func TestAnIssuerThatIsDownForDaysIsAskedAsSoonAsItIsBack(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		const life = 9 * day
		f.config = func(c *Config) { c.calm = time.Hour }
		i := f.issued("a", life)
		for _, name := range []string{"a", "b", "c"} {
			f.issue(name, life)
		}
		b, c := f.startOn("b"), f.startOn("c", "b")
		f.linked(f.startOn("a", "b", "c"), b, c)
		f.nodes["a"].stop()
		i.close()
		time.Sleep(life - 6*time.Hour)
		// It begins with a third and up to a twentieth of the life left, and an eighth of what is left has to have passed each time.
		most := 1 + int(math.Log(float64(life/3+life/20)/float64(6*time.Hour))/math.Log(9.0/8))
		if n := len(f.log.lines("b", "could not be renewed")); n < 1 || n > most {
			t.Errorf("b has said %d times that nobody renews", n)
		}
		was := serialOf(b)
		f.startOn("a", "b", "c")
		begun := time.Now()
		for serialOf(b) == was || time.Until(c.mesh.Certs().Self().Expires) < life/2 {
			if time.Since(begun) > 10*time.Second {
				t.Fatal("not renewed 10 s after the issuer is back")
			}
			time.Sleep(100 * time.Millisecond)
		}
		f.renewed(5*time.Second, f.nodes["a"], b, c)
	})
}

// The clocks of two machines differ by less than what is refused, and by more than two thirds of a certificate's life:
// each one looks old when it comes.
func TestCertificatesThatLookOldWhenTheyComeMakeNoLoop(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		const life = 2 * time.Hour
		f.config = func(c *Config) { c.calm = time.Minute }
		f.issued("a", life)
		a := f.start("a")
		f.issue("b", life)
		b := f.startOn("b", "a")
		f.linked(a, b)
		w := &renewalWatch{mesh: b.mesh, clock: func() time.Time { return time.Now().Add(100 * time.Minute) }}
		for begun := time.Now(); time.Since(begun) < life; time.Sleep(max(w.look(), time.Millisecond)) {
		}
		if n := len(f.log.lines("b", "this node has a new certificate")); n < 2 || n > 21 {
			t.Errorf("renewed %d times in %v", n, life)
		}
	})
}

func TestARefusedRequestIsNotRepeatedAllTheTime(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		const life = 30 * day
		f.config = func(c *Config) { c.calm = time.Hour }
		i := f.issued("a", life)
		a := f.start("a")
		f.issue("b", life)
		b := f.startOn("b", "a")
		f.linked(a, b)
		// The disk of the CA is broken.
		if err := os.WriteFile(filepath.Join(i.caDir(), "issued"), nil, 0o600); err != nil {
			if err = errors.Join(os.RemoveAll(filepath.Join(i.caDir(), "issued")), os.WriteFile(filepath.Join(i.caDir(), "issued"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		_, err := b.mesh.RenewNow(context.Background())
		if _, ok := errors.AsType[*notCertified](err); !ok || strings.Contains(err.Error(), i.dir) {
			t.Errorf("%v", err)
		}
		f.wantLogged("a", "level=ERROR", "the farm's CA can issue no certificates")
		w := &renewalWatch{mesh: b.mesh, clock: time.Now}
		tries := 0
		for s, begun := b.mesh.Certs(), time.Now(); time.Since(begun) < 10*day; tries++ {
			w.failed(s, false, err)
			time.Sleep(time.Until(w.notYet))
		}
		if tries < 10*12 || tries > 10*24*3 {
			t.Errorf("tried %d times in ten days", tries)
		}
	})
}

func TestAFloodOfRequestsForCertificatesIsBoundedAndHarmsNobodyElse(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		i := f.issued("a", time.Hour)
		a, b, c := f.start("a"), f.start("b", "a"), f.start("c", "a", "b")
		f.linked(a, b, c)
		l := b.mesh.direct("a")
		served, refused := 0, 0
		for range 500 {
			r, err := certs.NewRequest(b.mesh.Certs(), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			var back certified
			if err := b.mesh.converse(context.Background(), l, kindCertify, certify{Request: r.Bytes()}, kindCertified, &back); err != nil {
				t.Fatal(err)
			}
			if len(back.Certificate) > 0 {
				served++
			} else {
				refused++
			}
		}
		if served > 20 || refused < 480 {
			t.Errorf("%d certificates, %d refusals", served, refused)
		}
		if files, err := filepath.Glob(filepath.Join(i.caDir(), "issued", "*.crt")); err != nil || len(files) > 30 {
			t.Errorf("%d files, %v", len(files), err)
		}
		if n := len(f.log.lines("a", "no new certificate")); n == 0 || n > 5 {
			t.Errorf("%d lines about it", n)
		}
		if _, err := c.mesh.RenewNow(context.Background()); err != nil {
			t.Errorf("another node: %v", err)
		}
	})
}

// A node on the way changes requests, sends its own in their place, answers itself, or keeps the answer.
func TestANodeOnTheWayGainsNothingFromARequest(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.config = func(c *Config) { c.Manual = true }
		f.issued("a", time.Hour)
		a, c := f.start("a"), f.start("c")
		snap := f.issue("b", 365*day)
		tr := f.socket("b")
		call := func(to *testNode) *raw {
			conn, err := tr.Dial(t.Context(), to.addr, snap.DialTLS(alpn), quicConfig())
			if err != nil {
				t.Fatal(err)
			}
			r := &raw{t: t, conn: conn, instance: NewInstance()}
			r.control = r.open()
			r.write(r.control, kindHello, hello{Min: 1, Max: 1, Instance: r.instance, Clock: time.Now().UnixNano()})
			if err := expect(r.control, kindWelcome, &welcome{}); err != nil {
				t.Fatal(err)
			}
			return r
		}
		toA, toC := call(a), call(c)
		toA.serve(func(*quic.Stream, kind, []byte) {})
		time.Sleep(time.Second)
		a.mesh.mu.Lock()
		its := a.mesh.atlas.mine
		a.mesh.mu.Unlock()
		toC.links(its, linkList{Node: "b", Instance: toC.instance, Version: 1, Links: []string{"a", "c"}})

		own, err := certs.NewRequest(snap, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		// ask has the issuer certify a request in the name of c, or over the link of b itself.
		ask := func(header []byte, through bool) []byte {
			s := toA.open()
			if through {
				toA.write(s, kindVia, via{To: "a", ToRun: a.mesh.config.Instance, From: "c", Instance: c.mesh.config.Instance, Hops: 3})
			}
			if _, err := s.Write(rawFrame(kindCertify, header)); err != nil {
				t.Error(err)
			}
			_, back, err := readFrame(s)
			if err != nil {
				t.Error(err)
			}
			_ = s.Close()
			return back
		}
		var asIs, answered []byte // what c has sent, and what it was answered
		var way func(header []byte) []byte
		toC.serve(func(s *quic.Stream, k kind, _ []byte) {
			if k != kindVia {
				return
			}
			k, header, err := readFrame(s)
			if err != nil || k != kindCertify {
				return // sessions are being compared
			}
			asIs = header
			answered = way(header)
			_, _ = s.Write(rawFrame(kindCertified, answered)) // c may have gone
			_ = s.Close()
		})
		was := serialOf(c)
		for what, does := range map[string]func(header []byte) []byte{
			"it changes the request": func(header []byte) []byte {
				changed := slices.Clone(header)
				changed[len(changed)/2] ^= 1
				return ask(changed, true)
			},
			"it sends its own":                 func([]byte) []byte { return ask(mustCBOR(map[int]any{1: own.Bytes()}), true) },
			"it says that the request is its":  func(header []byte) []byte { return ask(header, false) },
			"it answers with its own":          func([]byte) []byte { return mustCBOR(map[int]any{1: certOf(t, f, "b")}) },
			"it answers with the one c has":    func([]byte) []byte { return mustCBOR(map[int]any{1: certOf(t, f, "c")}) },
			"it answers with nonsense":         func([]byte) []byte { return mustCBOR(map[int]any{1: []byte("DER")}) },
			"it answers that there is none":    func([]byte) []byte { return mustCBOR(map[int]any{2: "no\nlevel=ERROR"}) },
			"it answers nothing, and not that": func([]byte) []byte { return mustCBOR(map[int]any{}) },
		} {
			way = does
			_, err := c.mesh.RenewNow(t.Context())
			if err == nil || serialOf(c) != was || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", what, err)
			}
			c.onDisk()
			time.Sleep(5 * time.Minute)
		}
		// Passed on as it is, the answer is c's, and of no use to b, nor is the request when it is sent again.
		way = func(header []byte) []byte { return ask(header, true) }
		if _, err := c.mesh.RenewNow(t.Context()); err != nil || serialOf(c) == was {
			t.Fatalf("passed on as it is: %v", err)
		}
		c.onDisk()
		var first, again certified
		if err := errors.Join(decode(answered, &first), decode(ask(asIs, true), &again)); err != nil {
			t.Fatal(err)
		}
		if len(again.Certificate) > 0 && !bytes.Equal(first.Certificate, again.Certificate) {
			t.Error("the same request gets another certificate")
		}
		if _, err := own.Install(filepath.Join(f.dir, "b"), first.Certificate, time.Now()); err == nil {
			t.Error("b has installed what c has asked for")
		}
	})
}

// certOf is a node's certificate on the disk.
func certOf(t *testing.T, f *farm, host string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(f.dir, host, certs.NodeCert))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	return block.Bytes
}

func TestANodeThatSaysItIsTheIssuerHoldsNobodyUp(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		f.issued("a", time.Hour)
		a, b, c := f.start("a"), f.start("b", "a"), f.start("c", "a", "b")
		f.linked(a, b, c)
		b.mesh.mu.Lock()
		b.mesh.atlas.mine.Issuer = true
		b.mesh.renew()
		b.mesh.mu.Unlock()
		time.Sleep(time.Second)
		if n := len(c.mesh.issuers()); n != 2 {
			t.Fatalf("%d issuers", n)
		}
		for range 4 {
			if _, err := c.mesh.RenewNow(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}
