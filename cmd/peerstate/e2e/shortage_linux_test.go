package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fullDisk puts a directory on a disk without room. Without the right to mount one, the directory cannot be
// written for another reason, which to the program is the same.
func fullDisk(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		readOnly(t, dir)
		return
	}
	kept, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	contents := map[string][]byte{}
	for _, e := range kept {
		if contents[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("the superuser may not mount a small disk here: %v", err)
	}
	t.Cleanup(func() {
		// Detached, because the process that uses it is ended by a clean-up of its own.
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for name, data := range contents {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 1024))
	}
}

func readOnly(t *testing.T, dir string) {
	t.Helper()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Error(err)
		}
	})
}

// A node cannot write down whom it knows. It says so, serves its own sessions and fetches others', and
// starts again with what it had written before.
func TestANodeWithoutRoomOnItsDiskGoesOnServingAndHarmsNobody(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	env := []string{"PEERSTATE_MISSING_GRACE=1s", "PEERSTATE_BACKUP_SYNC=strict"}
	london, tokyo, paris := f.node("london", env...), f.node("tokyo", env...), f.node("paris", env...)
	f.startBoth(london, tokyo)
	state := filepath.Join(f.dir, "london", "state")
	f.until("written down", func() bool {
		data, err := os.ReadFile(filepath.Join(state, "nodes.json"))
		return err == nil && strings.Contains(string(data), `"up"`)
	})
	fullDisk(t, state)
	london.want(200, "", "PUT", "of-london", "cart")
	tokyo.want(200, "", "PUT", "of-tokyo", "cart")

	paris.start(london, tokyo) // which is news to be written down
	f.linked(london, tokyo, paris)
	f.until("said", func() bool { return london.logged("cannot be written to disk") })
	london.want(200, "cart", "GET", "of-tokyo", "")
	paris.want(200, "cart", "GET", "of-london", "")
	tokyo.want(200, "", "PUT", "of-tokyo", "fuller cart")
	london.want(404, "", "GET", "nobody", "")
	f.safe(london, tokyo, paris)

	london.kill()
	london.restart()
	f.linked(london, tokyo, paris)
	for id, want := range map[string]string{"of-london": "cart", "of-tokyo": "fuller cart"} {
		for _, n := range []*node{london, tokyo, paris} {
			n.served(id, want)
		}
	}
	data, err := os.ReadFile(filepath.Join(state, "nodes.json"))
	if err != nil || !json.Valid(data) {
		t.Errorf("the file of known nodes was spoilt: %v\n%s", err, data)
	}
	left, err := os.ReadDir(state)
	if err != nil || len(left) > 3 {
		t.Errorf("files were left behind: %v, %v", left, err)
	}
}

// A node may open 60 files, and a client opens connections without end. Its sessions are served through the
// others meanwhile, theirs are not harmed, and it takes connections again when there is room.
func TestANodeWithoutFileDescriptorsHarmsNoOtherAndRecovers(t *testing.T) {
	t.Parallel()
	f := newFarm(t)
	env := []string{"PEERSTATE_MISSING_GRACE=1s", "PEERSTATE_BACKUP_SYNC=strict"}
	london, tokyo := f.node("london", env...), f.node("tokyo", env...)
	const most = 60
	london.under = []string{"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$@"`, most), "sh"}
	f.startBoth(london, tokyo)
	for i := range 20 {
		london.want(200, "", "PUT", fmt.Sprint("of-london", i), "cart")
		tokyo.want(200, "", "PUT", fmt.Sprint("of-tokyo", i), "cart")
	}
	first := london.connect() // a web server's, from before the flood
	if a, err := first.request("GET", "of-london0", ""); err != nil || a.status != 200 {
		t.Fatalf("get: %d, %v", a.status, err)
	}

	var flood []net.Conn
	defer func() {
		for _, c := range flood {
			c.Close()
		}
	}()
	for range 3 * most {
		c, err := net.DialTimeout("tcp", london.web, 5*time.Second)
		if err != nil {
			break // the queue of connections that wait is full
		}
		flood = append(flood, c)
	}
	f.until("short of descriptors", func() bool { return london.logged("too many open files") })
	for i := range 20 {
		tokyo.served(fmt.Sprint("of-london", i), "cart")
		tokyo.served(fmt.Sprint("of-tokyo", i), "cart")
	}
	tokyo.want(404, "", "GET", "nobody", "")
	if a, err := first.request("GET", "of-tokyo0", ""); err != nil || a.status != 200 {
		t.Errorf("get of another node's session on a connection that it has: %d, %v", a.status, err)
	}

	for _, c := range flood {
		c.Close()
	}
	f.until("taking connections", func() bool {
		w, err := london.dial()
		if err != nil {
			return false
		}
		defer w.Close()
		a, err := w.request("GET", "of-london1", "")
		return err == nil && a.status == 200 && a.body == "cart"
	})
	f.linked(london, tokyo)
	london.want(200, "", "PUT", "of-tokyo1", "fuller cart")
	tokyo.want(200, "fuller cart", "GET", "of-tokyo1", "")
	f.safe(london, tokyo)
	f.until("each session held by one node", func() bool {
		return london.metric("peerstate_sessions_active")+tokyo.metric("peerstate_sessions_active") == 40
	})
}

// A node that is to have each write on disk before it answers finds the disk full. It answers all the same, and says so.
func TestANodeWhoseJournalHasNoRoomAnswersAndSaysSo(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only the superuser may mount a small disk")
	}
	f := newFarm(t)
	london := f.journalled("london", "PEERSTATE_DATA_SYNC=always").alone()
	london.start()
	london.want(200, "", "PUT", "before", "cart")
	london.stop()
	data := filepath.Join(f.dir, "london-data")
	fullDisk(t, data)
	london.restart()
	london.want(200, "cart", "GET", "before", "")
	london.want(200, "", "PUT", "visitor", strings.Repeat("cart ", 1000))
	london.want(200, strings.Repeat("cart ", 1000), "GET", "visitor", "")
	f.until("counted", func() bool { return london.metric("peerstate_journal_unforced_total") > 0 })
	if text := string(london.get("/readyz")); !strings.HasPrefix(text, "ready") || !strings.Contains(text, "warning: changes of sessions do not get to disk") {
		t.Errorf("/readyz: %s", text)
	}
	f.until("logged", func() bool { return london.logged("do not get to disk") })
	if err := os.Remove(filepath.Join(data, "filler")); err != nil {
		t.Fatal(err)
	}
	f.until("on disk", func() bool { return london.metric("peerstate_journal_unsynced_bytes") == 0 })
	london.kill()
	london.restart()
	london.want(200, strings.Repeat("cart ", 1000), "GET", "visitor", "")
}
