// Package store keeps a node's sessions: keys, locks, cookies, expiry, and the order of records. It
// decides who may change what, and when; it knows of no network.
//
// A request comes in by [Store.Try]. If this node holds the session, the request is carried out
// under the lock of the session's shard, by the rules of the state protocol ([MS-ASP] 3.1.5, and
// where that differs, .NET's StateRuntime.cs, which is what the real server runs). A new visitor's
// first write is stored at once as well. Everything else goes to [Store.Do], which asks the other
// nodes through [Farm] and waits: the session arrives and is served, or is locked elsewhere, or is
// nowhere, or nobody can tell just now, which is an outcome of its own ([Unknown]) and never the
// same as nowhere.
//
// A request that reads and meets a lock waits in the session's queue (waiters.go), and so does another
// node that asks for the session, with one place for all who wait there. Whoever is next is served under
// the lock of the shard the moment the session is unlocked or arrives.
//
// What always holds:
//
//   - A session has one holder, the node that decides about it. It changes by a hand-over: the
//     holder freezes the session, sends it, and gives it up when the receiver says that it has it.
//     Until then neither copy is served twice. A giver that never hears the answer is in doubt and
//     asks; only if the receiver is out does it serve its own copy again ([Handover.Promote]), with cookies
//     that the receiver cannot have given, and when the two meet again they settle ([Store.Settle]).
//   - Of two records of one key, [Version.Compare] says which is the session. Each write has a stamp
//     that never goes back; each move and promotion raises the epoch.
//   - A deletion is a record too, without a body, kept for the session's timeout and ten minutes, so
//     that an older copy somewhere does not bring the session back.
//   - A backup is no session: it is served by nobody until the transport has made sure that nobody can hold
//     the session, and then one of those who keep a backup becomes the holder ([Store.PromoteBackup]). Each
//     session has as many as Options.Backups, on the nodes named by [Store.SetKeepers]; what they have to be
//     told stands in an [Outbox] for each, and of a session that changes ten times while it waits there, the
//     last change is sent. The giver of a session is the first to keep a backup of it.
//   - A process that has stood still serves nothing before it has been compared with the others ([Store.Sure]).
//   - A locked session does not move, unless its node leaves ([Store.HandOut]). A cookie is not given twice for one session,
//     and a lock that died with a holder, or with several in a row, writes no more once somebody has been there (jump.go).
//   - "Missing here" said to a node that is about to create the key is a promise: this node does not
//     create it before that question has been answered. Of several nodes that create a key at the same moment one
//     stores it, the smallest name unless a promise has another go first, and the others find it (inquiry.go).
//   - With a journal ([Store.OpenJournal]) all this is on disk as well: sessions with their locks, notes of moves and deletions,
//     and the backups that are kept for others. What a shard has is written down under its lock (disk.go), so the last
//     that is written of a key is what the node knows; but what is promoted stands there as the backup that it was until it
//     changes, or the sweeper comes to it. What is found under two names, or a second time elsewhere, is settled by its
//     version. Where there are other nodes, what is loaded comes back as a backup
//     of the run that is over (recall.go): it is served when it has been promoted, and never before.
//   - Bodies are immutable once they are stored, and are served without being copied.
//
// Which keys and contents count as memory, and what is refused when there is no more of it, stands in room.go. Sessions of an old state
// server are taken over one by one where there is one (upstream.go). What an operator may know of a session, and nobody could use
// it by, is told by explain.go; it moves and renews nothing.
//
// Times that last are monotonic, stamps are wall-clock; see [Stamp].
package store
