//go:build !windows

package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestARecordingIsForItsOwnerOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.rec")
	r := startRelay(t, relayOptions{to: "127.0.0.1:1", record: file, quiet: true})
	if _, err := r.stop(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v", info.Mode())
	}
}
