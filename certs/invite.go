package certs

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// How long an invitation can last.
const (
	MinInvitation = time.Minute
	MaxInvitation = 7 * 24 * time.Hour
)

const (
	invitationsFile = "invitations"
	maxInvitations  = 100 // open at a time
	// keepInvitation is how long one that has ended is remembered, so that a late node learns what happened.
	keepInvitation = 24 * time.Hour
	// maxEnded bounds how many of those there are.
	maxEnded = 200
)

// Invitation is a name that a new node may join under, for display.
type Invitation struct {
	Node  string
	Until time.Time
}

// invitation is one in the file. The secret is not there, only what a proof of it is checked with.
type invitation struct {
	ID      string    `json:"id"`    // by which a joining node names it; does not tell the secret
	Proof   string    `json:"proof"` // SHA-256 of the secret, hexadecimal
	Node    string    `json:"node"`
	Expires time.Time `json:"expires"`
	// Used is the fingerprint of the key that was admitted; empty: it is open.
	Used string `json:"used,omitempty"`

	wrong int // proofs, since the issuer was opened
}

func (v *invitation) ended(now time.Time) bool { return !now.Before(v.Expires) }
func (v *invitation) open(now time.Time) bool  { return v.Used == "" && !v.ended(now) }

type invitations struct {
	in   caDir
	list []*invitation // in the order in which they were made
}

// readInvitations reads the file. It changes with the issuer only, which has the lock.
func readInvitations(in caDir) (*invitations, error) {
	const remedy = "remove it, and make new invitations with \"peerstate cert token\""
	v := &invitations{in: in}
	path := filepath.Join(in.path, invitationsFile)
	data, err := read(path, remedy)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &v.list); err != nil {
		return nil, broken(path, remedy, "it cannot be read as a list of invitations") // the library may quote from it
	}
	for _, i := range v.list {
		if i == nil || ValidName(i.Node) != nil || len(i.ID) != 2*invitationID || len(i.Proof) != 2*sha256.Size {
			return nil, broken(path, remedy, "there is something in it that is no invitation")
		}
	}
	return v, nil
}

// with gives the list with one more, in place of any other for that name, and without what ended long ago.
func (v *invitations) with(added *invitation, now time.Time) []*invitation {
	list := slices.DeleteFunc(slices.Clone(v.list), func(i *invitation) bool {
		return i.Node == added.Node || now.Sub(i.Expires) > keepInvitation
	})
	ended := 0
	for _, i := range list {
		if !i.open(now) {
			ended++
		}
	}
	list = slices.DeleteFunc(list, func(i *invitation) bool {
		if ended > maxEnded && !i.open(now) { // the oldest first
			ended--
			return true
		}
		return false
	})
	return append(list, added)
}

// save makes list the invitations, on the disk and here.
func (v *invitations) save(list []*invitation) error {
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return errors.New("the invitations cannot be encoded")
	}
	if err := v.in.write(invitationsFile, data); err != nil {
		return err
	}
	v.list = list
	return nil
}

func (v *invitations) byID(id string) *invitation {
	for _, i := range v.list {
		if i.ID == id {
			return i
		}
	}
	return nil
}

// shown are those that are open, sorted by name.
func (v *invitations) shown(now time.Time) []Invitation {
	var list []Invitation
	for _, i := range v.list {
		if i.open(now) {
			list = append(list, Invitation{i.Node, i.Expires})
		}
	}
	slices.SortFunc(list, func(a, b Invitation) int { return strings.Compare(a.Node, b.Node) })
	return list
}

// Invite makes a one-time invitation for a new node: the text of a [Token], which is secret, to be shown to
// the operator and nowhere else. self is the name of the issuer's own node, which the new one will
// ask, at one of addrs (host:port). The invitation lasts for ttl, [MinInvitation] to [MaxInvitation],
// and replaces another one for the same name. A name that was revoked may be invited: its old
// certificates and keys remain refused.
func (i *Issuer) Invite(node string, ttl time.Duration, self string, addrs []string, now time.Time) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.ready(); err != nil {
		return "", err
	}
	if ttl < MinInvitation || ttl > MaxInvitation {
		return "", fmt.Errorf("an invitation cannot last %v: %v to %v are possible", ttl, MinInvitation, MaxInvitation)
	}
	t := &Token{
		Farm: i.ca.Farm(), Node: node, Issuer: self, Addrs: addrs,
		Expires: now.Add(ttl).Truncate(time.Second).UTC(), secret: make([]byte, secretSize),
	}
	if _, err := rand.Read(t.secret); err != nil {
		return "", fmt.Errorf("make a secret: %w", err)
	}
	for _, ca := range i.ca.trust.cas {
		t.CA = append(t.CA, hashOf(ca.Raw))
	}
	if err := t.check(); err != nil {
		return "", fmt.Errorf("invite %q: %w", clean(node), err)
	}
	text, err := t.Text()
	if err != nil {
		return "", err
	}
	list := i.invitations.with(&invitation{ID: t.id(), Proof: hex.EncodeToString(t.proofKey()), Node: node, Expires: t.Expires}, now)
	open := 0
	for _, v := range list {
		if v.open(now) {
			open++
		}
	}
	if open > maxInvitations {
		return "", fmt.Errorf("%d invitations are open, and there can be no more; wait until some are used or have ended", maxInvitations)
	}
	return text, i.invitations.save(list)
}

// Inviting says whether there is an invitation that has not ended. One that was used counts, since the
// node may not have heard the answer and ask again.
func (i *Issuer) Inviting(now time.Time) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.ContainsFunc(i.invitations.list, func(v *invitation) bool { return !v.ended(now) })
}

// Invitations are those that are open, sorted by name.
func (i *Issuer) Invitations(now time.Time) []Invitation {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.invitations.shown(now)
}
