package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func needsGo(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no Go here to build with")
	}
}

// made makes one archive from a copy of the module in a directory of its own.
func made(t *testing.T, target target) (archive, sbom []byte) {
	t.Helper()
	r := &release{version: "v1.2.3", commit: strings.Repeat("c", 40), time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), source: t.TempDir(), out: t.TempDir()}
	top := filepath.Join("..", "..")
	for _, part := range []string{"cmd", "proxy", "store", "transport", "certs"} {
		if err := os.CopyFS(filepath.Join(r.source, part), os.DirFS(filepath.Join(top, part))); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []string{"go.mod", "go.sum", "README.md"} {
		text, err := os.ReadFile(filepath.Join(top, part))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(r.source, part), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	name, err := r.make(target)
	if err != nil {
		t.Fatal(err)
	}
	if archive, err = os.ReadFile(filepath.Join(r.out, name)); err != nil {
		t.Fatal(err)
	}
	base, _, _ := strings.Cut(name, ".tar")
	if sbom, err = os.ReadFile(filepath.Join(r.out, strings.TrimSuffix(base, ".zip")+".cdx.json")); err != nil {
		t.Fatal(err)
	}
	return archive, sbom
}

func TestBuildingTwiceInTwoPlacesGivesTheSameBytes(t *testing.T) {
	needsGo(t)
	archive, list := made(t, target{"linux", "amd64"})
	again, listAgain := made(t, target{"linux", "amd64"})
	if !bytes.Equal(archive, again) || !bytes.Equal(list, listAgain) {
		t.Errorf("the two differ (%d and %d bytes)", len(archive), len(again))
	}
	holdsProgramAndManual(t, archive)
	listsModules(t, list)
}

func holdsProgramAndManual(t *testing.T, archive []byte) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int64{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = h.Mode
		if h.ModTime.Year() != 2026 {
			t.Errorf("%s is of %v", h.Name, h.ModTime)
		}
	}
	if dir := "peerstate-v1.2.3-linux-amd64/"; found[dir+"peerstate"] != 0o755 || found[dir+"README.md"] != 0o644 || len(found) != 2 {
		t.Errorf("it has %v", found)
	}
}

func listsModules(t *testing.T, list []byte) {
	t.Helper()
	var b bill
	if err := json.Unmarshal(list, &b); err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, c := range b.Components {
		have[c.Name] = c.Version != "" && strings.HasPrefix(c.PURL, "pkg:golang/"+c.Name+"@")
	}
	for _, name := range []string{"std", "github.com/quic-go/quic-go", "golang.org/x/sys"} {
		if !have[name] {
			t.Errorf("%s is not in the list of modules", name)
		}
	}
	if have["github.com/Microsoft/go-winio"] {
		t.Error("a module that only Windows needs is in the list for Linux")
	}
}

func TestAZipIsTheSameEachTimeAndKeepsModesAndTimes(t *testing.T) {
	dir, when := t.TempDir(), time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)
	program := filepath.Join(dir, "made")
	if err := os.WriteFile(program, []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	var texts [2][]byte
	for i := range texts {
		path := filepath.Join(dir, "archive.zip")
		if err := writeZip(path, "peerstate-v1", when, []file{{program, "peerstate.exe", 0o755}}); err != nil {
			t.Fatal(err)
		}
		var err error
		if texts[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(texts[0], texts[1]) {
		t.Error("the two differ")
	}
	r, err := zip.NewReader(bytes.NewReader(texts[0]), int64(len(texts[0])))
	if err != nil || len(r.File) != 1 {
		t.Fatalf("%v files, %v", r, err)
	}
	if f := r.File[0]; f.Name != "peerstate-v1/peerstate.exe" || f.Mode() != 0o755 || !f.Modified.Equal(when) {
		t.Errorf("it has %s, %v, of %v", f.Name, f.Mode(), f.Modified)
	}
}

func TestChecksumsAreOfAllFilesAndRight(t *testing.T) {
	r := &release{out: t.TempDir()}
	for name, text := range map[string]string{"b.zip": "abc", "a.tar.gz": ""} {
		if err := os.WriteFile(filepath.Join(r.out, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.sum(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(r.out, "SHA256SUMS"))
	want := "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a.tar.gz\n" +
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  b.zip\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
}
