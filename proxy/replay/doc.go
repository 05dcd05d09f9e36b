// Package replay sends a recording of the relay to a state server again, and finds where the answers differ.
//
// The recording is read event by event and put together to exchanges, a request with its answer, in the order in which they were
// answered (sequence.go). That is, but for races that its cookies tell of, the order in which the recorded server carried them out.
// They are sent one after the other, on as many connections as were recorded (replay.go), so that each meets what it met then: locks taken by
// others, sessions that were deleted.
//
// Where the recording began in the middle of a session's life, the session is made first (prepare.go). Lock cookies are
// the new server's own: each recorded cookie stands for the one that the new server gave in its place
// (session.go). What is left are differences, counted by their kind (compare.go, result.go).
//
// Memory: some hundred bytes for each session of the recording, and the bodies of at most 64 exchanges or 64 MiB.
package replay
