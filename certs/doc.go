// Package certs is the farm's own certificate authority, and the answer to one question: who is at the
// other end of this link, and is he still one of us?
//
// A farm is a group of nodes that share sessions. It has a certificate authority (CA) of its own, used
// for nothing else, and every node has a certificate from it that carries the node's name. There are no
// passwords and no lists of allowed hosts: a peer is whoever presents a certificate of this farm's CA
// with a node's name in it.
//
// # One node, from its first certificate to its first link
//
// The operator runs "peerstate cert init": [CreateCA] makes a key and a certificate for the farm and
// writes ca.crt and ca.key. "peerstate cert issue web1" is [LoadCA] and [CA.Issue]: a key for web1, and
// a certificate with the identity spiffe://farm/node/web1 in it (identity.go), written with a copy of
// ca.crt into a directory that the operator takes to web1.
//
// There, [Load] reads the three files (files.go). Only if all of it fits together — the key belongs to
// the certificate, the certificate to the CA, the name to the farm, and the time is right — does it give
// a [Snapshot]; otherwise a [FileError] says which file is wrong and how to mend it. A snapshot never
// changes. When files change, load another one and swap a pointer.
//
// [Snapshot.ListenTLS] and [Snapshot.DialTLS] make the TLS configurations of the QUIC links. In both
// directions the decision is made in one place, verify.go, called from tls.Config.VerifyConnection:
// that hook runs on each and every handshake, which tls.Config.VerifyPeerCertificate does not (a
// resumed session skips it). It is closed by default: a handshake succeeds only if verify says yes.
// After the handshake [Snapshot.Peer] tells who it is; ask again after each new snapshot and from time
// to time, since TLS never looks at a certificate twice and those on open links expire, too.
//
// # A peer that is refused
//
// verify says no with a [Refusal]: one of a few reasons, and a sentence with the particulars. Each
// reason has a TLS alert of its own (refusal.go), so the node that was refused learns the reason as
// well, from the alert alone, and both operators find the same word in their logs. [RefusalOf] reads
// the error of the side that refused, [ReasonOfAlert] that of the side that was refused. The
// particulars never travel.
//
// # What the farm's issuer says to all: documents
//
// Which CAs are trusted, who is revoked, and how far the replacement of the CA is, all nodes must know
// alike, also those that were off when it was said. So one node, the issuer, that has the CA's key says it in
// a [Document] (document.go): all of it each time, numbered, and signed with the CA's key. The number
// alone decides which of two holds; the time in it is for people. Nodes pass a document on as it is and
// cannot make one, so it does not matter through whom it comes.
//
// A node takes one in with [Accept] (accept.go), if it is signed by a CA that this node trusts already and has
// a higher number than the one in force. That gives the next snapshot, and makes ca.crt what the document
// says: CAs that an operator has added there by hand, and the issuer does not know, go with it. What
// this node itself would be shut out by (a document that revokes it, or one without the CA of its own
// certificate) it does not take in: it would help nobody, and the others refuse the node anyway.
// ca.crt remains what a node believes in; a document is worth no more than its signature by a CA in there.
//
// # Revoked nodes
//
// A [Revocation] (revocation.go) refuses the certificates of a name up to a moment, and public keys
// whatever name they are certified for. Certificates are told apart by their time of issue, which begins
// the serial number, and by their keys; not by a fingerprint, since an ECDSA signature can be changed
// into another valid one by anybody. So a node that was cut off is in again with a new certificate for
// a new key, and an old copy of its files is not. A revocation that was taken back stays in the
// document as that, so that an older statement about the node does not come back.
//
// Documents are looked at in verify, as everything is; after a new one, ask [Snapshot.Peer] again for
// each open link.
//
// # A new certificate in time
//
// A node asks for its next certificate with a [Request] (request.go), which the issuer's node may get through
// others: it is signed with the key of the present certificate, and the key that it asks for has signed, too.
// Nobody on the way can change the name or the key, and the answer is of use only to whoever has the new
// key, which never leaves the node. Who keeps a request and sends it again gets no more than another
// certificate for the same key. [Request.Install] looks at the answer as a peer would, and replaces key and
// certificate.
//
// # Confirmations
//
// Before a CA can be dropped, every node must trust its successor and have a certificate of it. Nobody's
// word is taken for that but the node's own: the issuer makes up a nonce, the node signs it together with
// the number of the document that it has in force and on disk ([Snapshot.Confirm], confirm.go), and the
// certificate that comes with it shows which CA has signed that ([Snapshot.Confirmed]).
//
// # Changing the CA by hand
//
// ca.crt may hold several certificates, all of them of this farm: all are trusted. So without an issuer
// a new CA can be added everywhere before the first node gets a certificate of it, and the old one dropped
// after the last node has changed.
//
// # Files, crashes and changes
//
// Each file is written whole (a temporary file, forced to disk, renamed). Of two that belong together, one is
// written under another name first (node.key.new, state/farm.document.new); then the other takes its place
// (node.crt, ca.crt), which is the moment that counts; then the first is put in place. [Load] finds from the
// contents whether that moment was reached, and completes what a crash has left.
//
// [Watch] (watch.go) tells of changed files, by whomever; [Reload] loads them for a node that runs. If
// they are broken, the snapshot in use stays; if they are older than what is in force, as from an old copy,
// the document in force is written again.
//
// # Safety
//
// Keys are ECDSA P-256, made where they are used, and never logged or sent. Files are readable by their
// owner only (files_unix.go, files_windows.go). What is signed begins with a line that says what it is, so
// that a signature of one kind never passes for one of another (wire.go). The CA is limited to its use: it can sign nothing but end certificates for TLS,
// only names of its own farm, and no DNS name or IP address at all, so that even a machine that trusts
// it by mistake cannot be fooled with a web site's certificate.
//
// # The issuer
//
// One node of the farm has the CA's directory at hand: [OpenIssuer] (issuer.go) makes it the issuer, alone,
// by a lock. It answers requests for renewal ([Issuer.Renew]), a few a minute for each name, and never for
// a key that was certified before. Each certificate, also one issued by hand, leaves a copy in issued/
// (issued.go), so that it is known which nodes there are and which keys a name has had when it is
// revoked ([Issuer.Revoke]). Documents are numbered by the clock, so that a directory that was restored from
// an old copy uses no number again; [Issuer.Learn] (learn.go) has it hear what the farm knows meanwhile
// before it signs anything. If the farm has another CA meanwhile it is [ErrOutdated], and signs nothing.
//
// # Replacing the CA
//
// [Issuer.Rotate] (rotate.go) makes a new CA, in three stages that the document tells: Trust, all nodes
// trust both; Renew, all get certificates of the new one; Drop, all trust only that. [Issuer.Advance]
// goes on when every node has confirmed the present stage, so at each moment every two nodes accept each
// other, whichever of two documents they have. [Issuer.Abandon] turns round until nodes may have dropped
// the old CA. The same stages then lead back.
//
// In the directory the document is what counts: it is written first, and says which CAs are in ca.crt and whose
// keys in ca.key and next.key. [OpenIssuer] makes the files so after a crash (cadir.go); [LoadCA], for issuing
// by hand, only reads them so. ca.key is replaced by next.key, and the old key gone, when the document
// that drops the old CA is on the disk, and not before.
//
// # A new node
//
// [Issuer.Invite] (invite.go) makes a [Token], one line for the operator to carry over: where the issuer is,
// the hash of the CA, a name and a secret. The new node makes its key ([NewJoin], join.go), and dials with
// [Join.TLS], which lets it talk to nobody but the issuer that the token names. The secret is not sent: its
// hash is the key of an HMAC over what the two ends of this TLS connection alone have in common, and the
// new key. So nobody in between can take the proof elsewhere or put in a key of his own. [Issuer.Admit]
// (admit.go) gives one certificate for one key. Of the secret the issuer keeps the hash, which lies beside the
// CA's key and is worth less.
package certs
