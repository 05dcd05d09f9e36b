// Package settings reads what the operator decided: from the environment, and from one file of NAME=value lines. It says of each
// wrong value what would be right, and warns of what can be meant but seldom is.
//
// What single values may be is in values.go, what two settings together must not be in rules.go, where values
// come from in sources.go.
package settings

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"peerstate/store"
)

// prefix is what the names of all settings begin with.
const prefix = "PEERSTATE_"

// StandAlone is whose the journal of a node without peers is. It has no name of its own: that of the machine may change.
const StandAlone = "stand-alone"

// Settings is what the operator decided. One field, one environment variable: the env tag is its name
// without the prefix, envDefault what holds when it is not set, doc what "peerstate config" says about
// it. An explicitly empty value is an error but where the empty tag says what it means.
//
// Nothing changes it once it has been read, so any goroutine may use it.
type Settings struct {
	Listen       ListenAddr    `env:"LISTEN" envDefault:"127.0.0.1:42424" empty:"no web server" doc:"where the web server finds this node (state protocol, TCP); empty: a node without a web server"`
	AllowRemote  bool          `env:"ALLOW_REMOTE" envDefault:"false" doc:"allow a LISTEN that is not loopback; the protocol is plain text without a password"`
	CertDir      string        `env:"CERT_DIR" envDefault:"" empty:"no peers" doc:"directory with ca.crt, node.crt, node.key; empty: stand-alone, no peers"`
	CADir        string        `env:"CA_DIR" envDefault:"" empty:"another node is, or none" doc:"this node is the farm's issuer: the directory with ca.crt and ca.key that cert init made; empty: it is not"`
	CertLife     certLife      `env:"CERT_LIFE" envDefault:"90d" doc:"how long certificates last that this node issues, if it is the issuer; nodes renew them with a third of it left"`
	PeerListen   ListenAddr    `env:"PEER_LISTEN" envDefault:":42425" doc:"QUIC (UDP): one port for all peers, in and out"`
	Peers        PeerAddrs     `env:"PEERS" envDefault:"" empty:"none" doc:"other nodes: host:port,host:port; one is enough, as the nodes tell each other whom they know"`
	Mesh         meshMode      `env:"MESH" envDefault:"auto" doc:"auto: all nodes link to all; manual: only the links in PEERS, on either side"`
	MaxHops      hopCount      `env:"MAX_HOPS" envDefault:"16" doc:"over how many links a question goes; at least as many as lie between any two nodes"`
	Site         siteName      `env:"SITE" envDefault:"" empty:"none" doc:"where this node stands; shown in status, and used to place backups"`
	AdminListen  ListenAddr    `env:"ADMIN_LISTEN" envDefault:"127.0.0.1:42426" empty:"off" doc:"health, metrics, status (HTTP, read-only); empty: off"`
	FetchTimeout time.Duration `env:"FETCH_TIMEOUT" envDefault:"2500ms" doc:"longest a request waits for peers"`
	MissingGrace time.Duration `env:"MISSING_GRACE" envDefault:"5s" doc:"a node not up for this long is out"`
	LockWait     lockWait      `env:"LOCK_WAIT" envDefault:"400ms" doc:"how long a request waits for a lock before it is told 423; 0: not at all"`
	LostAfter    time.Duration `env:"LOST_AFTER" envDefault:"60s" doc:"a node out for this long is lost: what only it held is missing"`
	Backups      backups       `env:"BACKUPS" envDefault:"1" doc:"copies of each session on other nodes; 0: none"`
	BackupSync   store.Sync    `env:"BACKUP_SYNC" envDefault:"off" doc:"on: a write is answered when its backups have it, or after 1 s, or at once when no other node is linked; strict: then the client gets an error; off: at once"`
	Placement    Placement     `env:"BACKUP_PLACEMENT" envDefault:"any" doc:"where backups should be: any, other-site or same-site"`
	DataDir      string        `env:"DATA_DIR" envDefault:"" empty:"memory only" doc:"directory for the journal: sessions survive a crash, a power cut and a restart; empty: memory only"`
	DataSync     dataSync      `env:"DATA_SYNC" envDefault:"100ms" doc:"how often the journal is forced to disk; always: before a write is answered"`
	OnStop       onStop        `env:"ON_STOP" envDefault:"handover" doc:"handover: a stop hands the sessions over to the other nodes; keep: it leaves them in the journal"`
	MaxMemory    memoryLimit   `env:"MAX_MEMORY" envDefault:"0" doc:"memory for sessions and backups; when it is full, new sessions are refused with an error; 0: no limit"`
	Upstream     upstreamAddr  `env:"UPSTREAM" envDefault:"" empty:"none" doc:"host:port of an old state server, from which sessions are taken over during a migration; the same on all nodes; empty: none"`
	AppAliases   appAliases    `env:"APP_ALIASES" envDefault:"" empty:"none" doc:"application ids that are one application, kept under the one on the right: A=B,C=B; the same on all nodes; empty: none"`
	MaxBody      byteSize      `env:"MAX_BODY" envDefault:"64MiB" doc:"largest single session"`
	MaxConns     count         `env:"MAX_CONNS" envDefault:"10000" doc:"connections from web servers"`
	DrainTimeout time.Duration `env:"DRAIN_TIMEOUT" envDefault:"30s" doc:"time for handing sessions over on a stop"`
	Control      controlPath   `env:"CONTROL" envDefault:"" empty:"by the port of LISTEN" doc:"control socket, for commands that change something: a path, or a pipe's name on Windows; empty: by the port of LISTEN"`
	StatusLine   statusLine    `env:"STATUS_LINE" envDefault:"http" doc:"http: HTTP/1.1 200 OK; bare: 200 OK"`
	LogLevel     logLevel      `env:"LOG_LEVEL" envDefault:"info" doc:"debug, info, warn or error"`
	LogFormat    logFormat     `env:"LOG_FORMAT" envDefault:"text" doc:"text: for people, coloured on a terminal; json: for collectors"`

	InForce  []inForce // every setting, in the order above
	Warnings []string  // for the log and for check: nothing that stops the start
}

// inForce is one setting as "peerstate config" shows it: its Name and its Value.
type inForce struct {
	setting
	Value  string // as it was written
	origin string // "environment", "FILE line N", or "default"
}

// setting is what the tags of a field of Settings say.
type setting struct {
	Name     string // with the prefix
	field    string
	fallback string
	doc      string
	mayEmpty bool
}

// allSettings lists the fields of Settings in their order.
func allSettings() []setting {
	var all []setting
	for f := range reflect.TypeFor[Settings]().Fields() {
		if name, ok := f.Tag.Lookup("env"); ok {
			_, mayEmpty := f.Tag.Lookup("empty")
			all = append(all, setting{prefix + name, f.Name, f.Tag.Get("envDefault"), f.Tag.Get("doc"), mayEmpty})
		}
	}
	return all
}

// Wrong is every fault found in the settings, each in a line that names the variable, the
// value and what would be right. As an error it is one line; check shows them all.
type Wrong []string

func (w Wrong) Error() string {
	if more := len(w) - 1; more > 0 {
		return fmt.Sprintf("%s (and %d more: see peerstate check)", w[0], more)
	}
	return w[0]
}

// newSettings reads the settings from values, which has them under their full names. A wrong value
// is Wrong.
func newSettings(values sources) (*Settings, error) {
	s := &Settings{Warnings: values.warnings}
	plain := make(map[string]string)
	for name, v := range values.byName {
		plain[name] = v.value
	}
	// The env package takes an empty value for an absent one, so it gets the default of what is
	// explicitly empty; the value is set to empty below.
	err := env.ParseWithOptions(s, env.Options{Prefix: prefix, Environment: plain, FuncMap: settingParsers})
	faults, err := faultsByField(err)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	var wrong Wrong
	for _, set := range allSettings() {
		v, given := values.byName[set.Name]
		switch fault := faults[set.field]; {
		case !given:
			v = sourced{set.fallback, "default"}
		case v.value == "" && set.mayEmpty:
			reflect.ValueOf(s).Elem().FieldByName(set.field).SetZero()
		case v.value == "":
			wrong = append(wrong, fmt.Sprintf("%s is empty (%s): leave it out for the default, %s", set.Name, v.origin, set.fallback))
		case fault != nil:
			wrong = append(wrong, fmt.Sprintf("%s is %q (%s): it should be %v", set.Name, v.value, v.origin, fault))
		}
		s.InForce = append(s.InForce, inForce{set, v.value, v.origin})
	}
	if len(wrong) == 0 {
		wrong = s.contradictions()
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	s.Warnings = append(s.Warnings, s.doubts()...)
	return s, nil
}

// faultsByField takes apart what the env package reports. The error is for what is not about values.
func faultsByField(err error) (map[string]error, error) {
	faults := make(map[string]error)
	if err == nil {
		return faults, nil
	}
	all, ok := errors.AsType[env.AggregateError](err)
	if !ok {
		return nil, err
	}
	for _, one := range all.Errors {
		p, ok := errors.AsType[env.ParseError](one)
		if !ok {
			return nil, one
		}
		faults[p.Name] = p.Err
	}
	return faults, nil
}

// Value gives a setting as it was written, for messages.
func (s *Settings) Value(field string) string {
	for _, f := range s.InForce {
		if f.field == field {
			return f.Value
		}
	}
	return ""
}

// given tells whether a setting was set, even to its default.
func (s *Settings) given(field string) bool {
	for _, f := range s.InForce {
		if f.field == field {
			return f.origin != "default"
		}
	}
	return false
}

// String gives the settings in the form of an --env-file.
func (s *Settings) String() string {
	var b strings.Builder
	for _, f := range s.InForce {
		fmt.Fprintf(&b, "# %s\n", f.doc)
		if f.origin == "default" {
			b.WriteString("# from: default\n")
		} else {
			fmt.Fprintf(&b, "# from: %s (default: %s)\n", f.origin, orNone(f.fallback))
		}
		fmt.Fprintf(&b, "%s=%s\n\n", f.Name, Quote(f.Value))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
