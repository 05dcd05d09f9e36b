package process

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestTheProcessAtTheOtherEndOfAConnectionIsFound(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "windows" {
		t.Skip("this system does not tell")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	port := func(a net.Addr) uint16 { return uint16(a.(*net.TCPAddr).Port) }
	pid, name := At(port(c.LocalAddr()), port(l.Addr()))
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Base(program) // of which Linux tells the first 15 letters
	if pid != os.Getpid() || name == "" || !strings.HasPrefix(own, name) {
		t.Errorf("process %d, %q; this is %d, %q", pid, name, os.Getpid(), own)
	}
	if pid, name := At(port(c.LocalAddr()), 1); pid != 0 || name != "" {
		t.Errorf("of a connection that is not: %d, %q", pid, name)
	}
}
