package admin

import (
	"encoding/json"
	"net/http"
	"time"
)

// Status is what /api/status shows. The JSON names are a promise to other people's programs.
type Status struct {
	Node          string       `json:"node"`
	Site          string       `json:"site"`
	Farm          string       `json:"farm"` // empty: stand-alone
	Version       string       `json:"version"`
	UptimeSeconds int64        `json:"uptime_seconds"`
	Sessions      Sessions     `json:"sessions"`
	Memory        Memory       `json:"memory"`
	Largest       []Large      `json:"largest"` // of the sessions held, the largest first
	Peers         []Peer       `json:"peers"`
	Links         []Link       `json:"links"`       // of the farm, as far as this node can see it
	Certificate   *Certificate `json:"certificate"` // nil: stand-alone
	Mistakes      []Mistake    `json:"mistakes"`
}

// Mistake is a pair of application ids that seem to be one application, on different nodes.
type Mistake struct {
	Applications [2]string   `json:"applications"` // with their hashes
	Nodes        [2][]string `json:"nodes"`        // on which each is used
	Alias        string      `json:"alias"`        // for PEERSTATE_APP_ALIASES, if they are one
	First        time.Time   `json:"first"`        // when it showed
	Last         time.Time   `json:"last"`
}

// Sessions are those that this node holds.
type Sessions struct {
	Active  int   `json:"active"`
	Bytes   int64 `json:"bytes"`
	Backups int   `json:"backups"` // kept for other holders
}

// Memory is how much of what PEERSTATE_MAX_MEMORY allows is used.
type Memory struct {
	Used     int64 `json:"used"`    // bytes, as it counts them
	Backups  int64 `json:"backups"` // of them: kept for other holders
	Limit    int64 `json:"limit"`   // 0: none
	Refusing bool  `json:"refusing"`
}

// Large is one of the largest sessions, under a short hash of its key.
type Large struct {
	Hash  string `json:"hash"`
	Bytes int64  `json:"bytes"` // of its key and its contents
}

// Peer is another node as this one sees it.
type Peer struct {
	Node        string     `json:"node"` // empty: an address in PEERSTATE_PEERS that never answered
	Site        string     `json:"site"`
	Addr        string     `json:"addr"`
	State       string     `json:"state"`
	RTTMillis   *float64   `json:"rtt_ms"`      // nil: not linked
	Hops        int        `json:"hops"`        // over how many links it is reached; 0: it is not up
	Since       time.Time  `json:"since"`       // of the state
	Reason      string     `json:"reason"`      // why it is not up
	CertIssuer  string     `json:"cert_issuer"` // key id of the CA that has signed its certificate
	CertSerial  string     `json:"cert_serial"`
	CertExpires *time.Time `json:"cert_expires"`
	Document    uint64     `json:"document"` // number of the farm's document that it has in force; 0: none
	Rotation    string     `json:"rotation"` // how far it is while the CA is replaced: behind, old certificate, done; empty: it is not
	Issuer      bool       `json:"issuer"`   // it is the farm's issuer
	Sessions    *int64     `json:"sessions"` // that it holds, by its own word; nil: it never said, or has left
	Aliases     string     `json:"aliases"`  // how its PEERSTATE_APP_ALIASES differ from this node's; empty: they do not, as far as is known
}

// Link is one between two nodes, reported by both. Its peers may be any two nodes.
type Link struct {
	A         string   `json:"a"`      // node
	B         string   `json:"b"`      // node, after A in the alphabet
	RTTMillis *float64 `json:"rtt_ms"` // nil: not known
}

// Certificate is this node's own.
type Certificate struct {
	Node      string    `json:"node"`
	Issuer    string    `json:"issuer"`
	IssuerKey string    `json:"issuer_key"` // key id of the CA
	Serial    string    `json:"serial"`
	Expires   time.Time `json:"expires"`
	CAExpires time.Time `json:"ca_expires"`
	Document  uint64    `json:"document"` // number of the farm's document in force; 0: none
	Rotation  string    `json:"rotation"` // stage of the replacement of the CA: trust, renew, drop; empty: none
}

// complete makes [] in JSON of what would be null.
func (s *Status) complete() {
	if s.Peers == nil {
		s.Peers = []Peer{}
	}
	if s.Largest == nil {
		s.Largest = []Large{}
	}
	if s.Links == nil {
		s.Links = []Link{}
	}
	if s.Mistakes == nil {
		s.Mistakes = []Mistake{}
	}
}

// JSON gives the status as /api/status does.
func (s Status) JSON() ([]byte, error) {
	s.complete()
	return json.MarshalIndent(s, "", "  ")
}

func status(s Source) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		body, err := s.Status().JSON()
		writeJSON(w, body, err)
	}
}

// writeJSON answers with what was encoded, if it could be.
func writeJSON(w http.ResponseWriter, body []byte, err error) {
	if err != nil {
		text(w, http.StatusInternalServerError, "encode the answer: "+err.Error()+"\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n')) // a client that is gone is no event here
}
