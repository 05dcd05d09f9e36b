// Package demo is what the demonstrations share: sidecars that are started as an operator starts them (site.go), and the
// state protocol as a web server speaks it (conversation.go).
package demo

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Process is a program that runs beside the demonstration and writes what it says to a file.
type Process struct {
	Name string
	Log  string // the file

	command *exec.Cmd // nil: it does not run
	ended   chan error
}

// Start runs the program with nothing in its environment that would count as a setting of peerstate, but for what is given
// as NAME=value.
func (p *Process) Start(environ []string, program string, args ...string) error {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	c := exec.Command(program, args...)
	c.Stdout, c.Stderr = log, log
	apart(c)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PEERSTATE_") {
			c.Env = append(c.Env, v)
		}
	}
	c.Env = append(c.Env, environ...)
	if err := c.Start(); err != nil {
		return errors.Join(fmt.Errorf("starting %s: %w", p.Name, err), log.Close())
	}
	p.command, p.ended = c, make(chan error, 1)
	go func() { p.ended <- errors.Join(c.Wait(), log.Close()) }()
	return nil
}

// Ended receives once, when the program has ended.
func (p *Process) Ended() <-chan error { return p.ended }

// Away notes that the program has ended by itself, once Ended has given that.
func (p *Process) Away() { p.command = nil }

// Gone is the error of a program that has ended by itself, by what Ended gave.
func (p *Process) Gone(err error) error {
	p.Away()
	return fmt.Errorf("%s has ended (%v). It logged:\n%s", p.Name, err, p.logged())
}

func (p *Process) logged() string {
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Kill ends the program as kill -9 does, and waits for it.
func (p *Process) Kill() error {
	if p.command == nil {
		return nil
	}
	if err := p.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.ended // an exit by a signal, which was meant
	p.command = nil
	return nil
}

// End asks all programs to stop, and waits for them.
func End(all ...*Process) error {
	var errs []error
	for _, p := range all {
		if p.command != nil {
			errs = append(errs, interrupt(p.command.Process))
		}
	}
	for _, p := range all {
		if p.command == nil {
			continue
		}
		select {
		case err := <-p.ended:
			if err != nil {
				errs = append(errs, p.Gone(err))
			}
		case <-time.After(15 * time.Second):
			errs = append(errs, fmt.Errorf("%s did not stop", p.Name), p.command.Process.Kill())
		}
		p.command = nil
	}
	return errors.Join(errs...)
}
