// Package proxy is the listener that the web server on this machine talks to: the state protocol
// of [MS-ASP], as the client inside ASP.NET really speaks it.
//
// One request on its way through the package:
//
// A Server accepts a connection and gives it a goroutine (server.go), which takes one request
// after the other (conn.go). A reader hands out the lines of the head from the one buffer that the
// connection has (reader.go); each is taken apart in place and forgotten (request.go), the target
// being decoded into the session's key (key.go), in which the id of the application may be replaced by another that
// the operator says is the same one (aliases.go). The body follows, which for a PUT becomes the one
// piece of memory that a request allocates (body.go). The store mostly answers at once; where it
// has to wait for another node, the connection is watched meanwhile for a client that gives up
// (watch.go). The answer is put together in the connection's other buffer and written in one call
// (answer.go), after a look whether anybody is still there to read it: a lock that its client never
// heard of is taken back (deliver.go, gone_unix.go, gone_windows.go; for what may have to be taken back, turn_unix.go
// looks, writes and waits in one).
//
// What is not a request of the state protocol is answered 400, and the connection closed, with a
// line in the log that says what it was and what to do (refusal.go). Requests are counted, not
// logged (metrics.go).
//
// The packages below it stand on the other side of the protocol: relay between a web server and any state server,
// replay as a web server's double with a recording of the relay, upstream as the client of an old state server whose sessions
// are taken over, and wire as what all of them know of messages. recording is the file that relay writes and replay reads, and
// upstream/aspnetstate a double of Microsoft's service for tests.
//
// # Choices
//
// The protocol's documents are silent on these points, or leave a choice:
//
//   - net/http cannot be the server: the real client's target has no leading slash.
//   - Only HTTP/1.1 is answered. "Connection: close" is honoured. One empty line before a request
//     is skipped (RFC 9112, 2.2).
//   - After a 400 for a bad value (Timeout, ExtraFlags, LockCookie) or method the connection stays
//     open, since it is clear where the next request begins. After every other 400 it is closed.
//   - A header that appears twice counts as the last one says, but Content-Length twice is refused,
//     even with the same value. A PUT without Content-Length is refused: stored as an empty session
//     it would lose the user's data.
//   - A body that a GET, HEAD or DELETE declares is read and dropped before the request is carried
//     out. Those in [MS-ASP]'s examples declare one that is never sent; such a request has no effect
//     and its connection is cut after 30 s, because the next request cannot be told from the body.
//   - A browser's request is told by what no state client sends and no page can suppress: a User-Agent
//     of "Mozilla/", Sec-Fetch headers. That also keeps a page in a browser on this machine away
//     from the sessions. The target is no criterion, being opaque.
//   - Control characters in a key are refused, percent-encoded or not. All else is taken as it is.
//   - The ten seconds for a head begin with its first byte. A connection between two requests may be
//     idle for five minutes: the real client closes its own after five to ten seconds, so this only
//     ends those that were forgotten. Peers that died are found by TCP keep-alive before that.
//   - A client that has closed its sending side only (as nc -N does) gets its answers, but no lock
//     and no ActionFlags: a connection that is half closed looks the same as one that is closed.
package proxy
