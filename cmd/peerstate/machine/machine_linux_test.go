package machine

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheLimitOfAContainerCounts(t *testing.T) {
	dir := t.TempDir()
	write := func(text string, path ...string) {
		t.Helper()
		name := filepath.Join(append([]string{dir}, path...)...)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	limit := func() uint64 {
		t.Helper()
		n, err := groupLimit(filepath.Join(dir, "self"), filepath.Join(dir, "root"))
		if err != nil {
			t.Error(err)
		}
		return n
	}
	if n := limit(); n != 0 {
		t.Errorf("without control groups it is %d", n)
	}
	write("1:name=systemd:/old\n0::/outer/inner\n", "self")
	write("max\n", "root", "outer", "inner", "memory.max")
	if n := limit(); n != 0 {
		t.Errorf("without a limit it is %d", n)
	}
	write("2000\n", "root", "outer", "memory.max")
	write("3000\n", "root", "outer", "inner", "memory.max")
	if n := limit(); n != 2000 {
		t.Errorf("the smallest limit is %d", n)
	}
}
