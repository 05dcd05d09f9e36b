package store

import (
	"testing"
	"testing/synctest"
)

// What the tests in package store_test need of the inside. They cannot be in this package, because
// they compare it with store/model, which imports it.
var CheckIdle = checkIdle

// SweepRound is how late an expired session's memory may be given back.
const SweepRound = sweepRound

// Bubble runs f in virtual time. A panic, with which rapid ends a run, is taken across.
func Bubble(t *testing.T, f func()) {
	var failed any
	synctest.Test(t, func(*testing.T) {
		defer func() { failed = recover() }()
		f()
	})
	if failed != nil {
		panic(failed)
	}
}
