package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The measure of certificates that look after themselves: the CA and every certificate of five nodes under load are
// replaced while two more nodes join and one leaves, and no page notices.
func TestTheCAIsReplacedUnderLoadAndNoPageNotices(t *testing.T) {
	needsCtrlC(t)
	f := newFarm(t)
	issuer := f.issuer()
	issuer.start()
	var loaded []*node
	var to []string
	for i := range 5 {
		n := f.invited(issuer, fmt.Sprint("web", i+1))
		n.start()
		loaded, to = append(loaded, n), append(to, n.web)
	}
	leaver := f.invited(issuer, "web6")
	leaver.start()
	f.linked(append(loaded, issuer, leaver)...)
	before := map[string]certificates{}
	for _, n := range append(loaded, issuer) {
		before[n.name] = n.certificates()
	}

	bench := exec.Command(program, "bench", "--to", strings.Join(to, ","), "--connections", "2", "--duration", "5m", "--json")
	var figures, complaints bytes.Buffer
	bench.Stdout, bench.Stderr = &figures, &complaints
	if err := bench.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bench.Process.Kill() }) // it has ended by itself, otherwise

	leaver.stop()
	rotate := issuer.commandFor("cert", "rotate-ca")
	said := &output{}
	rotate.Stdout, rotate.Stderr = said, said
	if err := rotate.Start(); err != nil {
		t.Fatal(err)
	}
	rotated := make(chan error, 1)
	go func() { rotated <- rotate.Wait() }()
	t.Cleanup(func() { _ = rotate.Process.Kill() }) // as with bench
	f.until("waiting for web6", func() bool { return strings.Contains(said.String(), "waiting for web6") })
	farm := append([]*node{issuer}, loaded...)
	for _, name := range []string{"web7", "web8"} {
		n := f.invited(issuer, name)
		n.start()
		farm = append(farm, n)
	}
	f.linked(farm...)
	issuer.does("cert", "rotate-ca", "--without", "web6")
	select {
	case err := <-rotated:
		if err != nil {
			t.Fatalf("rotate-ca: %v\n%s", err, said)
		}
	case <-time.After(2 * time.Minute):
		t.Fatalf("the CA has not been replaced after 2 minutes:\n%s", said)
	}

	f.linked(farm...)
	for _, n := range farm {
		old, now := before[n.name].Certificate, n.certificates().Certificate
		if now.IssuerKey == before["issuer"].Certificate.IssuerKey || now.Serial == old.Serial || now.Rotation != "" {
			t.Errorf("%s has the certificate %+v; it was %+v", n.name, now, old)
		}
		if text := f.command("cert", "status", "--dir", filepath.Join(f.dir, n.name)); strings.Count(text, "A CA that is trusted") != 1 {
			t.Errorf("%s trusts\n%s", n.name, text)
		}
	}
	for _, n := range farm[1:] { // pages go on after it, on all nodes
		n.want(404, "", "GET", "nobody", "")
	}
	interruptCommand(t, bench)
	err := bench.Wait()
	var result struct {
		Cycles, Errors int64
		Seconds        float64
	}
	if jerr := json.Unmarshal(figures.Bytes(), &result); err != nil || jerr != nil || result.Errors != 0 || result.Cycles < 200 {
		t.Errorf("the load: %v, %v\n%s%s", err, jerr, &figures, &complaints)
	}
	t.Logf("%d cycles in %.1f s, %d errors", result.Cycles, result.Seconds, result.Errors)
}
