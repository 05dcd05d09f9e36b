// Command release makes what users download: an archive for each system, with a list of what is in the
// program (SBOM), and their checksums. It is run by "make release".
//
// Whoever builds the same commit with the same Go gets the same bytes: nothing in them comes from the machine, the
// directory or the moment. All times are the commit's.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// target is a system that there is an archive for.
type target struct{ os, arch string }

var targets = []target{
	{"windows", "amd64"}, {"windows", "arm64"}, {"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"},
}

// release is what all archives have in common.
type release struct {
	version string
	commit  string
	time    time.Time // of the commit
	source  string    // the module's directory
	out     string
}

func main() {
	out := flag.String("out", "bin/release", "`directory` for the archives; what is in it is removed")
	version := flag.String("version", "", "`version`, instead of what git says")
	flag.Parse()
	if err := run(*out, *version); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(out, version string) error {
	r := &release{version: version, source: ".", out: out}
	if err := r.ask(); err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, t := range targets {
		name, err := r.make(t)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", t.os, t.arch, err)
		}
		fmt.Println(name)
	}
	return r.sum()
}

// ask has git say what is built.
func (r *release) ask() error {
	git := func(args ...string) (string, error) {
		c := exec.Command("git", args...)
		c.Dir = r.source
		out, err := c.Output()
		if err != nil {
			return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out)), nil
	}
	var err error
	if r.version == "" {
		if r.version, err = git("describe", "--tags", "--always", "--dirty"); err != nil {
			return err
		}
	}
	if changed, err := git("status", "--porcelain"); err != nil {
		return err
	} else if changed != "" {
		return errors.New("there are changes that are not committed, so nobody could build the same: commit them first")
	}
	if r.commit, err = git("rev-parse", "HEAD"); err != nil {
		return err
	}
	when, err := git("show", "-s", "--format=%cI", "HEAD")
	if err != nil {
		return err
	}
	r.time, err = time.Parse(time.RFC3339, when)
	r.time = r.time.UTC()
	return err
}

// make builds the program for a target, and writes its archive and its SBOM. It gives the archive's name.
func (r *release) make(t target) (string, error) {
	work, err := os.MkdirTemp("", "peerstate-release")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	program := filepath.Join(work, "peerstate")
	if t.os == "windows" {
		program += ".exe"
	}
	if err := r.build(t, program); err != nil {
		return "", err
	}
	name := fmt.Sprintf("peerstate-%s-%s-%s", r.version, t.os, t.arch)
	bill, err := r.bill(program)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(r.out, name+".cdx.json"), bill, 0o644); err != nil {
		return "", err
	}
	files := []file{{from: program, name: filepath.Base(program), mode: 0o755}, {from: filepath.Join(r.source, "README.md"), name: "README.md", mode: 0o644}}
	archive := name + ".tar.gz"
	write := writeTar
	if t.os == "windows" {
		archive, write = name+".zip", writeZip
	}
	return archive, write(filepath.Join(r.out, archive), name, r.time, files)
}

// build builds the program so that its bytes depend on the commit, the target and Go's version only.
func (r *release) build(t target, program string) error {
	flags := fmt.Sprintf("-s -w -buildid= -X main.version=%s -X main.commit=%s -X main.built=%s", r.version, r.commit, r.time.Format(time.RFC3339))
	c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", program, "./cmd/peerstate")
	c.Dir = r.source
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+t.os, "GOARCH="+t.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOEXPERIMENT=", "GOFIPS140=off")
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}
