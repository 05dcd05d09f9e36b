package control

import (
	"crypto/rand"
	"testing"
)

func socketIn(*testing.T) string { return `\\.\pipe\peerstate-test-` + rand.Text() }
