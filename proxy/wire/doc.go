// Package wire cuts the bytes of one direction of a connection into the messages of the state protocol, and is
// the client's side of it: what stands between a web server and somebody else's state server, or speaks to one, needs both.
//
// A Splitter looks on while bytes pass, in whatever pieces they come. Unlike the listener in package proxy it refuses nothing:
// what is not a message is handed out as raw bytes, and so is all that follows it. It tells where a message begins and
// ends and what its lines are; what they mean, package proxy says (Describe).
//
// A Conn sends a request and reads its answer.
//
// # Choices
//
//   - Lines may end with CRLF or LF. The status line may have the version or not.
//   - The body that a GET, HEAD or DELETE declares may be missing, as in [MS-ASP]'s examples: if what follows the head begins
//     like a request, it is the next one.
//   - An answer without Content-Length lasts to the end of the connection. The body of an answer to HEAD is never there.
package wire
