package transport

import (
	"errors"
	"time"

	"peerstate/certs"
)

// The issuer may have been restored from an old copy of its directory, and may have said something from there already.
// So it hears every document that another node has, also an older one, before that node gets its own: what only the
// other one says about revoked nodes is said again, in a new document of both.

// issuerLearns has the issuer hear a document that somebody has, and publishes what it says to that.
func (m *Mesh) issuerLearns(d *certs.Document, from string) {
	if m.config.Issuer == nil {
		return
	}
	said, err := m.config.Issuer.Learn(d.Bytes(), time.Now())
	if err != nil && !errors.Is(err, certs.ErrOldDocument) && m.repeats.first("learned from "+from+" "+err.Error()) {
		m.log.Error("this farm's issuer makes nothing of a document that another node has", "from", from, "number", d.Number, "reason", err)
	}
	if said != nil {
		m.say(said)
	}
}

// say publishes a document of this node's issuer.
func (m *Mesh) say(d *certs.Document) {
	if err := m.Publish(d); err != nil && !errors.Is(err, certs.ErrOldDocument) {
		m.log.Error("a document of this node's issuer is not in force as it should be", "number", d.Number, "reason", err)
	}
}

// compareWithIssuer has the issuer hear what this node has, and publishes what the issuer has said and could not publish.
func (m *Mesh) compareWithIssuer() {
	if m.config.Issuer == nil {
		return
	}
	mine, said := m.Certs().Document(), m.config.Issuer.Document()
	if mine.Equal(said) {
		return
	}
	if mine != nil {
		m.issuerLearns(mine, m.me)
		said = m.config.Issuer.Document()
	}
	if said != nil && said.Number > m.Certs().DocumentNumber() {
		m.say(said)
	}
}
