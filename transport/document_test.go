package transport

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"peerstate/certs"
)

// publisher makes documents with the farm's CA, byte by byte, so that it can also make those that no issuer makes.
type publisher struct {
	*authority
	farm    string
	number  uint64
	revoked map[string]map[int]any
	signer  *ecdsa.PrivateKey
}

func (f *farm) publisher() *publisher {
	a := f.authority()
	return &publisher{authority: a, farm: "farm", revoked: map[string]map[int]any{}, signer: a.key}
}

// bytes gives the document that holds now, under this number.
func (p *publisher) bytes(number uint64) []byte {
	p.t.Helper()
	var list []any
	names := make([]string, 0, len(p.revoked))
	for name := range p.revoked {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		list = append(list, p.revoked[name])
	}
	payload := map[int]any{1: p.farm, 2: number, 3: time.Now().UnixNano(), 4: [][]byte{p.cert.Raw}}
	if list != nil {
		payload[5] = list
	}
	said := encoded(p.t, payload)
	spki, err := x509.MarshalPKIXPublicKey(&p.signer.PublicKey)
	if err != nil {
		p.t.Fatal(err)
	}
	digest := sha256.Sum256(append([]byte("peerstate document 1\n"), said...))
	signature, err := ecdsa.SignASN1(rand.Reader, p.signer, digest[:])
	if err != nil {
		p.t.Fatal(err)
	}
	name := sha256.Sum256(spki)
	return encoded(p.t, map[int]any{1: said, 2: []any{map[int]any{1: name[:], 2: signature}}})
}

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	b, err := encoding.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// next makes the next document.
func (p *publisher) next() *certs.Document {
	p.t.Helper()
	p.number++
	d, err := certs.ParseDocument(p.bytes(p.number))
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}

// revoke makes the next document, in which nodes are revoked with the keys that they have.
func (p *publisher) revoke(nodes ...*testNode) *certs.Document {
	p.t.Helper()
	now := time.Now().UnixNano()
	for _, n := range nodes {
		sum, err := hex.DecodeString(n.mesh.Certs().Self().Key)
		if err != nil {
			p.t.Fatal(err)
		}
		p.revoked[n.name] = map[int]any{1: n.name, 2: now, 3: [][]byte{sum}, 4: now}
	}
	return p.next()
}

func (p *publisher) unrevoke(node string) *certs.Document {
	p.revoked[node] = map[int]any{1: node, 4: time.Now().UnixNano(), 5: true}
	return p.next()
}

func (n *testNode) publish(d *certs.Document) {
	n.farm.t.Helper()
	if err := n.mesh.Publish(d); err != nil {
		n.farm.t.Fatal(err)
	}
}

// inForce fails unless the nodes have the document within so long.
func (f *farm) inForce(number uint64, within time.Duration, nodes ...*testNode) {
	f.t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(time.Millisecond) {
		late := slices.IndexFunc(nodes, func(n *testNode) bool { return n.mesh.Certs().DocumentNumber() != number })
		if late < 0 {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("%s has document %d after %v, want %d", nodes[late].name, nodes[late].mesh.Certs().DocumentNumber(), within, number)
		}
	}
}

func (n *testNode) documents(t *testing.T, result string) float64 {
	t.Helper()
	return counter(t, n.mesh.metrics.documents, result)
}

func TestADocumentReachesAllAndIsThereAfterARestart(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(0, "a", "b", "c", "d", "e")
		d := f.publisher().next()
		nodes[2].publish(d)
		f.inForce(1, f.delay+time.Millisecond, nodes...)
		time.Sleep(3 * time.Second)
		for _, n := range nodes {
			if got := n.documents(t, "accepted"); got != 1 {
				t.Errorf("%s has taken in %v documents", n.name, got)
			}
			for _, p := range n.mesh.Peers() {
				if p.Document != 1 || p.Cert.Serial != f.nodes[p.Node].mesh.Certs().Self().Serial {
					t.Errorf("%s says of %s: document %d, certificate %s", n.name, p.Node, p.Document, p.Cert.Serial)
				}
			}
		}
		if err := nodes[0].mesh.Publish(d); !errors.Is(err, certs.ErrOldDocument) {
			t.Errorf("it is published once more: %v", err)
		}
		nodes[4].stop()
		f.inForce(1, 0, f.start("e"))
	})
}

func TestOfTwoNodesThatLinkTheOneWithTheOlderDocumentGetsTheOthers(t *testing.T) {
	for _, dialler := range []string{"a", "b"} {
		t.Run(dialler+" dials", func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				p := f.publisher()
				a, x := f.start("a"), f.start("x", "a")
				f.linked(a, x)
				a.publish(p.next())
				f.inForce(1, time.Second, a, x)
				x.stop()
				a.publish(p.revoke(x))
				a.stop()
				// b has nothing, a has document 2, and there is nobody else.
				var b *testNode
				if dialler == "a" {
					b = f.start("b")
					a = f.start("a", "b")
				} else {
					a = f.start("a")
					b = f.start("b", "a")
				}
				for b.mesh.direct("a") == nil || a.mesh.direct("b") == nil {
					time.Sleep(time.Millisecond)
					synctest.Wait()
				}
				f.inForce(2, 0, a, b)
				b.wantPeer("a", Up, 1)
			})
		})
	}
}

func TestOfTwoDocumentsThatArePublishedAtOnceAllHaveTheHigherOne(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(partial(6))
		p := f.publisher()
		for range 10 {
			one, two := p.next(), p.next()
			var both sync.WaitGroup
			both.Go(func() { d.all[5].publish(two) })
			both.Go(func() { d.all[0].publish(one) })
			both.Wait()
			f.inForce(p.number, time.Second, d.all...)
		}
	})
}

func TestADocumentThatWasLostOnTheWayIsSentAgainUponAPing(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		a := f.start("a")
		r := f.join("z", a)
		var mu sync.Mutex
		var at []time.Time
		r.serve(func(s *quic.Stream, k kind, _ []byte) {
			if k == kindDocument {
				mu.Lock()
				at = append(at, time.Now())
				mu.Unlock()
				s.CancelRead(streamGivenUp)
				_ = s.Close() // the link may have ended
			}
		})
		has := uint64(0)
		stop := make(chan struct{})
		var pings sync.WaitGroup
		pings.Go(func() {
			for {
				mu.Lock()
				p := ping{N: 1, Number: has}
				mu.Unlock()
				r.write(r.control, kindPing, p)
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
				}
			}
		})
		go func() { _, _ = io.Copy(io.Discard, r.control) }() // until the link ends
		time.Sleep(time.Second)
		a.publish(f.publisher().next())
		begun := time.Now()
		time.Sleep(2500 * time.Millisecond)
		mu.Lock()
		if len(at) != 2 || at[1].Sub(begun) > 2100*time.Millisecond {
			t.Errorf("sent at %v, begun at %v; want it at once and once more within two seconds", at, begun)
		}
		mu.Unlock()
		time.Sleep(5 * time.Minute)
		mu.Lock()
		if len(at) > 12 {
			t.Errorf("a peer that does not take it in was sent it %d times in five minutes", len(at))
		}
		has, at = 1, nil
		mu.Unlock()
		time.Sleep(3 * time.Minute)
		close(stop)
		pings.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(at) > 1 {
			t.Errorf("a peer that has it was sent it %d times", len(at))
		}
	})
}

func TestADocumentThatCannotBeWrittenIsInForceAndPassedOnAndWrittenLater(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		d := f.draw(line(4))
		b, x := d.all[1], d.all[3]
		obstacle := filepath.Join(b.files(), certs.StateDir, certs.DocumentFile+".new", "x")
		if err := os.MkdirAll(obstacle, 0o700); err != nil {
			t.Fatal(err)
		}
		d.all[0].publish(f.publisher().revoke(x))
		f.inForce(1, time.Second, d.all[:3]...)
		d.all[2].wantPeer("d", Refused, 0)
		f.wantLogged("b", "level=ERROR", "cannot be written to disk")
		if err := os.RemoveAll(filepath.Dir(obstacle)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		if s, err := certs.Load(b.files(), time.Now()); err != nil || s.DocumentNumber() != 1 {
			t.Errorf("on the disk: %v", err)
		}
	})
}

// hostileDocuments are what z can send, which has no key of the farm's CA; older is what the issuer has signed before.
func hostileDocuments(f *farm, older []byte) map[string][]byte {
	f.t.Helper()
	forged := f.publisher()
	key, err := x509.ParsePKCS8PrivateKey(pemBlock(f.t, filepath.Join(f.dir, "z", certs.NodeKey)))
	if err != nil {
		f.t.Fatal(err)
	}
	forged.signer = key.(*ecdsa.PrivateKey)
	f.newCA("other")
	other := f.publisher()
	other.cert, err = x509.ParseCertificate(pemBlock(f.t, filepath.Join(f.dir, "other", certs.CACert)))
	if err != nil {
		f.t.Fatal(err)
	}
	otherKey, err := x509.ParsePKCS8PrivateKey(pemBlock(f.t, filepath.Join(f.dir, "other", certs.CAKey)))
	if err != nil {
		f.t.Fatal(err)
	}
	other.signer = otherKey.(*ecdsa.PrivateKey)
	alien := f.publisher()
	ca, err := certs.CreateCA(filepath.Join(f.dir, "alien"), "alien", time.Hour, time.Now())
	if err != nil || ca.Farm() != "alien" {
		f.t.Fatal(err)
	}
	alien.farm = "alien"
	if alien.cert, err = x509.ParseCertificate(pemBlock(f.t, filepath.Join(f.dir, "alien", certs.CACert))); err != nil {
		f.t.Fatal(err)
	}
	good := f.publisher().bytes(9)
	changed := bytes.Replace(older, []byte{2, 1, 3}, []byte{2, 9, 3}, 1) // its number
	if bytes.Equal(changed, older) {
		f.t.Fatal("the number was not found")
	}
	return map[string][]byte{
		"signed by a node's key":     forged.bytes(9),
		"of another CA":              other.bytes(9),
		"of another farm":            alien.bytes(9),
		"an older one":               older,
		"an older one, renumbered":   changed,
		"garbage":                    bytes.Repeat([]byte{0xa1}, 1000),
		"half of one":                good[:len(good)/2],
		"more than one":              append(slices.Clone(good), 0),
		"announced as far too large": nil,
	}
}

func TestANodeWithoutTheCAsKeyCannotMakeChangeOrRollBackADocument(t *testing.T) {
	unreadable := []string{"garbage", "half of one", "more than one", "announced as far too large"}
	for _, way := range []string{"on a stream", "in the hello"} {
		for what := range map[string]bool{"signed by a node's key": true, "of another CA": true, "of another farm": true, "an older one": true,
			"an older one, renumbered": true, "garbage": true, "half of one": true, "more than one": true, "announced as far too large": true} {
			t.Run(what+" "+way, func(t *testing.T) {
				inFarm(t, func(t *testing.T, f *farm) {
					u := besideAnHonestPeer(f)
					p := f.publisher()
					older := p.next()
					u.a.publish(older)
					u.a.publish(p.next())
					f.inForce(2, time.Second, u.a, u.c)
					f.issue("z", time.Hour)
					data := hostileDocuments(f, older.Bytes())[what]
					header := document{Size: int64(len(data))}
					if data == nil {
						header.Size = certs.MaxDocument + 1
					}
					var r *raw
					switch way {
					case "on a stream":
						r = f.join("z", u.a)
						s := r.open()
						_, err := s.Write(frame(kindDocument, header, data...))
						if err == nil {
							err = s.Close()
						}
						if err != nil {
							t.Fatal(err)
						}
					case "in the hello":
						r = f.connect("z", u.a)
						r.control = r.open()
						r.write(r.control, kindHello, hello{Min: 1, Max: 1, Instance: r.instance, Number: 9})
						if err := expect(r.control, kindWant, &want{}); err != nil {
							t.Fatal(err)
						}
						if _, err := r.control.Write(frame(kindDocument, header, data...)); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(3 * time.Second)
					f.inForce(2, 0, u.a, u.c)
					if u.a.mesh.Certs().Document().Revoked != nil || len(u.a.mesh.Certs().Authorities()) != 1 {
						t.Error("something was taken over")
					}
					want := float64(1)
					if what == "an older one" || what == "announced as far too large" {
						want = 0
					}
					if got := u.a.documents(t, "refused"); got != want {
						t.Errorf("%v documents are counted as refused, want %v", got, want)
					}
					if n := value(t, u.a.mesh.metrics.misbehaved); (n > 0) != slices.Contains(unreadable, what) {
						t.Errorf("%v misbehaviours are counted", n)
					}
					if (r.conn.Context().Err() != nil) != slices.Contains(unreadable, what) {
						t.Errorf("the connection: %v", r.conn.Context().Err())
					}
					if u.c.documents(t, "refused") != 0 {
						t.Error("it was passed on")
					}
					u.check()
				})
			})
		}
	}
}

func TestAPeerThatAnswersAHelloWithOneDocumentAfterTheOtherGetsNoLink(t *testing.T) {
	for what, later := range map[string][]byte{"another document": frame(kindDocument, document{}), "wanting it again and again": frame(kindWant, want{}),
		"garbage": frame(kindDocument, document{Size: 3}, 1, 2, 3), "a cut one": frame(kindDocument, document{Size: 9}, 1, 2, 3)} {
		t.Run(what, func(t *testing.T) {
			inFarm(t, func(t *testing.T, f *farm) {
				u := besideAnHonestPeer(f)
				listener, err := f.socket("z").ListenEarly(f.issue("z", time.Hour).ListenTLS(alpn), quicConfig())
				if err != nil {
					t.Fatal(err)
				}
				var all sync.WaitGroup
				all.Go(func() {
					for {
						conn, err := listener.Accept(t.Context())
						if err != nil {
							return
						}
						s, err := conn.AcceptStream(t.Context())
						if err != nil {
							continue
						}
						for range 10 {
							if _, err := s.Write(later); err != nil {
								break
							}
						}
						_ = s.Close() // the connection may have ended
					}
				})
				err = (&dialler{mesh: u.a.mesh, addr: addrOf("z").String()}).try()
				if !errors.Is(err, errFrame) || u.a.mesh.direct("z") != nil || value(t, u.a.mesh.metrics.misbehaved) != 1 {
					t.Errorf("it ends with %v", err)
				}
				u.check()
				if err := listener.Close(); err != nil {
					t.Error(err)
				}
				all.Wait()
			})
		})
	}
}

// c would hear it from a, as b knows, but nothing comes through.
func TestADocumentComesAnotherWayWhereThePublisherIsNotHeard(t *testing.T) {
	inFarm(t, func(t *testing.T, f *farm) {
		nodes := f.backedUp(0, "a", "b", "c")
		f.cut(nodes[0], nodes[2])
		nodes[0].publish(f.publisher().next())
		f.inForce(1, 2*time.Second, nodes...)
		if nodes[0].mesh.direct("c") == nil {
			t.Error("the link between a and c has ended, which was not meant")
		}
	})
}
