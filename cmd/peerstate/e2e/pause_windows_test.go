package e2e

import "testing"

func (n *node) pause(t *testing.T) { t.Skip("a process cannot be stopped and go on here") }

func (n *node) goOn(*testing.T) {}
