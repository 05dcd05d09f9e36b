// Package relay stands between a web server and a state server, passes on what they say to each other, and shows and records it.
//
// A Relay accepts a connection, makes one of its own to the state server (relay.go), and has two goroutines pass bytes
// on, one for each direction; the end of a direction is passed on, too, and so is a reset (conn.go). On their way the bytes go by a
// tap, which cuts them into messages (package wire) and tells the screen and the recording of each (tap.go). Headers are dropped or set
// there if the operator wants that (edit.go); otherwise every byte goes on as and when it came, understood or not.
//
// The screen writes what people read (screen.go, format.go). It has a queue with a limit: a terminal that stands still, as those of
// Windows do while somebody marks text in them, does not hold web pages up.
//
// A connection takes half a megabyte at most, whatever passes through it: bodies are never kept whole. A side that does not read
// holds up the other one.
package relay
