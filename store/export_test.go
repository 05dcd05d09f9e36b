package store

// What the tests in package store_test need of the inside. They cannot be in this package, because
// they compare it with store/model, which imports it.
var CheckIdle = checkIdle

// SweepRound is how late an expired session's memory may be given back.
const SweepRound = sweepRound
