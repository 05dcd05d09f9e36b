// Package certs is the farm's own certificate authority, and the answer to one question: who is at the
// other end of this link?
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
// # Changing the CA
//
// ca.crt may hold several certificates, all of them of this farm: all are trusted. So a new CA can be
// added everywhere before the first node gets a certificate of it, and the old one dropped after the
// last node has changed.
//
// # Safety
//
// Keys are ECDSA P-256, made where they are used, and never logged or sent. Each file is written whole
// (a temporary file, forced to disk, renamed), readable by its owner only (files_unix.go,
// files_windows.go). The CA is limited to its use: it can sign nothing but end certificates for TLS,
// only names of its own farm, and no DNS name or IP address at all, so that even a machine that trusts
// it by mistake cannot be fooled with a web site's certificate.
package certs
