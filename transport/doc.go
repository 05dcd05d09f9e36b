// Package transport links a node to the others of its farm, and is the store's view of them
// ([store.Farm]).
//
// A [Mesh] has one UDP socket, on which it listens and from which it dials. A connection becomes a
// link in three steps: the TLS handshake, in which both sides judge the other's certificate
// (package certs); the dialler's hello, with the run of the node that it is; and the welcome. There
// is one link between two nodes, whichever of them dialled: of two that were dialled from both sides
// at once, the one that the smaller name dialled stays. A second live node of one name is refused, and
// where two have come to be in islands of a farm that are linked later, the later started one is (rivals.go);
// a node that has started anew, which shows in its instance, takes the place of its old self.
//
// All nodes link to all: each tells its links whom it knows, and dials whom it did not know (learn.go). With
// Config.Manual the operator draws the links: a ring, a star, or whatever the network allows. Each node
// tells its links with whom it is linked, and passes on what others tell (links.go): so all know the
// map, and a node without a link of its own is reached over the first link of a shortest path (via.go).
//
// # A session that is somewhere else
//
// The store asks ([Mesh.Ask]). The question goes to all linked nodes at once, each on a stream of its
// own. One answers "found": behind its reply comes the session, which its store has frozen. It is
// taken in as it arrives ([store.Store.Receive]), the receipt goes back, the giver lets its copy go
// and ends the stream, and that end tells the receiver that it may forget the hand-over. All this
// goes on when the question is long decided. If all say "missing", that is the answer after one round
// trip to the slowest; "moved" is followed to the node that has the session now; and where a node
// that may have it could not be asked, the outcome is not known, which is not the same as missing.
//
// A node that does not have the session passes the question on to those of its links that its sender is not
// linked with, and answers for all of them (flood.go); in a full mesh there are none. A question has a
// number, and whoever it comes to a second time says so at once: nobody handles it twice, and no two wait
// for each other. A session that is found further on comes back on the same streams, and so does the receipt
// go forth: the nodes between pass bytes on and keep nothing, and the hand-over is from the giver to the
// asker. "Missing" has to come from every node that is up; one from which no word came makes it not known.
//
// A receipt that does not come leaves the giver in doubt. The session stays frozen, and the giver
// asks what became of the hand-over as soon as the receiver can be reached (doubt.go). A receiver
// that is out does not keep it waiting: then the giver serves its own copy again, and the two settle
// when they meet, so that one of them holds it in the end.
//
// # Backups
//
// The store says which sessions have changed ([store.Outbox]), and a stream to each node that keeps backups
// carries them (backup.go, keep.go). When a holder is out, or back in a new run, those who keep backups of its
// sessions ask all nodes that are up whether they hold them, many in a frame, and promote what nobody has
// (promote.go). Two nodes that were not up for each other compare what they have used meanwhile before they
// do anything else with each other (meet.go, settle.go), so doubles are settled in bulk.
//
// What a node finds in its journal when it starts are backups, too: its own sessions as those of its run that is over, and
// those that it kept for others. They are promoted like any other, its own by itself before an equal backup elsewhere is; but
// nobody knows of these copies, and what has become of the sessions since may be known only to a node that is off. So each node
// that had one of them or a copy of it, by the record's own list, is asked first, or is gone for good. A copy is dropped
// as soon as somebody says that he holds the session. Until all nodes that are up have been asked the node is not
// ready ([Mesh.Compared]).
//
// # A node that stops
//
// [Mesh.Drain] gives all sessions away, on several streams to each linked node (drain.go, give.go, given.go), and [Mesh.GoodBye]
// tells them that nothing is left. A node that leaves takes nothing in, and goes on answering: writes
// to what has left are passed on. It is called drained then, and nobody waits for it.
//
// # Who is up
//
// A link sends a ping every second; QUIC's idle time-out of 5 s ends a dead one. A node is up while a path of
// links leads to it, each reported by both its ends (ways.go). Without one it is connecting, after
// Config.Grace out, and LostAfter later lost: only then does it count no more. A node that leaves a question
// unanswered is suspect to those linked with it, and nobody waits for it until it answers one. Who passes a
// question on answers in time itself, and is not suspect for what is behind it.
// Who was known, and how, is kept on disk, so that a node which has just started does not take for
// missing what another one has (node.go, known.go).
//
// # Certificates that change
//
// [Mesh.SetCerts] puts another snapshot in force (reload.go). New handshakes use it at once, and every connection,
// link or not yet, is judged by it before SetCerts returns; each minute all are judged again. What was admitted by the
// older one is judged once more before it becomes a link, so nobody slips through between.
//
// A link whose side has another certificate now is replaced (renew.go). The side that dialled it dials again, for
// itself or because the other asks; the new link is of a later generation, and so better than the old one at
// both ends. The listener uses it when it hears the dialler on it, so at no time is there no link, and one
// whose making fails changes nothing. What is known of the node's run goes over to it: whether it is suspect, leaves,
// has told whom it knows, has been compared with. On the old link what is under way goes on to its end; the
// stream for backups ends when all on it is answered, and begins anew on the new link (backup.go). Each side says when
// it has nothing open any more, and the old link is closed when both have (retire.go).
//
// # What the farm's issuer says
//
// Which CAs are trusted and who is revoked stands in a numbered, signed document (package certs). Of two nodes that
// link, the one with the older document gets the other's between hello and answer, so neither is linked with by what
// was true before (document.go). [Mesh.Publish] takes a new one in and sends it over all links; whoever takes it
// in passes it on, and pings carry its number, so that one that was lost comes again. One that no trusted CA has signed
// is counted and goes nowhere. [Mesh.UpdateCerts] is for all else that changes the files of certificates.
//
// A node that starts may have missed a revocation, and the revoked node may be the first to call. So, if it knew
// others when it stopped, it uses a link only when it has compared documents with another node as well, for two
// seconds at most (moments.go).
//
// A revoked node is gone at once: its links are closed, it is lost and not waited for, its backups are promoted, what
// others tell of its links does not count, and what comes from it through others is turned back (revoked.go). Lists
// of links carry each node's certificate, so that one which has joined again, with another key, is told from what it
// was, also by those who have no link with it.
//
// The node with the CA's directory (Config.Issuer) hears every other document before its own replaces it, for its
// directory may have come back from an old copy (issuer.go).
//
// # Joining
//
// A machine that is invited has no certificate yet. [Join] asks the farm's issuer for one (joining.go), in a protocol
// of its own (certs.JoinALPN) on the same UDP port. The issuer's node speaks it only while somebody is invited
// (invite.go): otherwise the handshake fails, as it does on every other node. The one side is known by the CA in the
// invitation and its name, before anything is sent to it, and the other by the secret in it. Who comes in this
// protocol is a stranger: the connection never becomes a link, and nothing on it reaches what serves links. It has
// one stream with one request, which goes to certs.Issuer.Admit, and ten seconds. Eight are heard at a time; when one
// more comes, the one that has said nothing for longest goes, so that nobody is kept out by those who are slow.
// After the certificate the issuer names the farm's nodes, with their addresses. They are kept in nodes.json as unmet
// (known.go), and are to a mesh like addresses in the settings: dialled until they are linked or forgotten, and waited
// for the grace time once. What the other nodes then say of them counts as usual. The address at which the node joined
// takes the place of the settings where they name nobody, at each start: it is always dialled. With Config.Manual it
// is the only one dialled then, and the other nodes are reached through the issuer until the operator draws links.
//
// # Certificates that look after themselves
//
// A node gets its next certificate from the farm's issuer (certify.go), the node with Config.Issuer, when a third of
// the present one's life is left: each at a moment of its own, and over a way through others where it has no link to the
// issuer. What it sends proves its name by itself, so nobody on the way gains anything. Where that fails it is tried
// again after pauses that grow, as soon as an issuer comes up, and said more and more often the nearer the end is. The issuer
// (issue.go) answers so many a second over each link, and certs.Issuer gives each name so many.
//
// The farm's CA is replaced while all nodes run ([Mesh.RotateCA], rotate.go). The issuer's node asks all that are known
// to prove which document and which certificate they have in force (confirm.go), by name and each time with a
// new nonce; when all have, the next stage is published: trust the new CA, renew with it, drop the old one. A node proves
// its new certificate when no connection of it shows the old one any more, so dropping the CA ends no link. One that is off is
// waited for, and named in [Mesh.Rotation], until it comes or the operator goes on without it. The stage is in the
// document and nowhere else: after a crash the issuer's node asks anew, and goes on. [Mesh.Sign] is the way to have the
// issuer say anything: it hears the others first, and publishes what was said even if an error followed.
//
// # Nodes of two versions
//
// A farm is upgraded one node after the other. The two sides of a link use the highest version of the protocol that both
// know, fields that a node does not know are skipped, and what it could not understand is not sent to it, or refused by it in a
// way that costs nothing (versions.go). Version 2 has the frames that explain sessions and ask which application ids are used, and
// refuses a kind that it does not know without closing the link. Without a higher version, hello, welcome and lists of links have the
// digest of aliases; lists the highest version that their node knows, its program and its round-trip times; a receipt that there
// is no memory; and the pong to one who only looks, how deep the farm is:
// a node that does not know these goes without.
//
// # What the operator wants to know
//
// All nodes are asked where a session is, and each tells what it knows of it, without its id (explain.go). A node that is asked for a
// session of which it has the id under another application's asks all whether the two are one application, and says so if they
// seem to be (mistake.go); and one whose aliases differ from another's says that (aliases.go). The map with its
// times (picture.go) and the farm's depth (depth.go) decide nothing.
//
// # What a peer may send
//
// Peers are authenticated, and still not trusted further than that: frames have limits (frame.go),
// memory grows with the bytes that arrive, counted against the store's limit (contents.go), and not with a declared length, what comes is checked
// before it is used, and a link over which something comes that no node sends is closed and counted. What
// came through others is only counted: those between do not read what they pass on. They are trusted as far as
// that goes: a node on the way could say "missing" for those behind it, as it could for itself.
//
// What one peer can make this node spend is bounded by its name (limits.go): questions, records, bytes that are on
// their way, lists, documents, nodes that it names, connections. The bounds are some times what an honest node does,
// and what is refused is not known, never missing. Whoever asks for very many sessions that nobody has is warned of
// (alarm.go). Of those who have not shown a certificate yet so many are heard at a time and a second, in all and
// at each address, and the rest is turned away before anything is kept of them (strangers.go).
package transport
