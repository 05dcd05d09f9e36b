package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caarlos0/env/v11"
	"github.com/dustin/go-humanize"

	"peerstate/proxy"
	"peerstate/store"
	"peerstate/transport"
)

// The types of single settings, and how each is read. An error of a parser is not what went wrong but
// what would have been right; it completes "it should be ...".

type (
	// ListenAddr is host:port; the host may be empty (all addresses), and the port 0 (a free one).
	ListenAddr string
	// PeerAddrs are host:port each, complete.
	PeerAddrs  []string
	siteName   string
	appAliases struct{ *proxy.Aliases } // nil: none
	// lockWait may be 0, which a time-out may not.
	lockWait time.Duration
	backups  int
	dataSync time.Duration // 0: "always"
	onStop   string        // "handover" or "keep"
	// Placement is where backups should be.
	Placement    transport.Placement
	certLife     time.Duration
	controlPath  string // a path, or a pipe's name on Windows
	byteSize     int64
	memoryLimit  int64 // 0: none
	count        int
	hopCount     int
	meshMode     string // "auto" or "manual"
	upstreamAddr string // host:port
	statusLine   string // "http" or "bare"
	logFormat    string // "text" or "json"
	// logLevel is a slog.Level that reads four words only, not "INFO+4".
	logLevel slog.Level
)

var settingParsers = map[reflect.Type]env.ParserFunc{
	reflect.TypeFor[ListenAddr]():    parser(ParseListenAddr),
	reflect.TypeFor[PeerAddrs]():     parser(ParsePeerAddrs),
	reflect.TypeFor[upstreamAddr]():  parser(parseUpstream),
	reflect.TypeFor[siteName]():      parser(parseSiteName),
	reflect.TypeFor[appAliases]():    parser(parseAppAliases),
	reflect.TypeFor[byteSize]():      parser(parseByteSize),
	reflect.TypeFor[memoryLimit]():   parser(parseMemoryLimit),
	reflect.TypeFor[count]():         parser(parseCount),
	reflect.TypeFor[time.Duration](): parser(parseDuration),
	reflect.TypeFor[lockWait]():      parser(parseLockWait),
	reflect.TypeFor[bool]():          parser(parseBool),
	reflect.TypeFor[backups]():       parser(parseBackups),
	reflect.TypeFor[dataSync]():      parser(parseDataSync),
	reflect.TypeFor[onStop]():        oneOf(map[string]onStop{"handover": "handover", "keep": OnStopKeep}, `"handover" or "keep"`),
	reflect.TypeFor[store.Sync]():    oneOf(map[string]store.Sync{"off": store.SyncOff, "on": store.SyncOn, "strict": store.SyncStrict}, `"off", "on" or "strict"`),
	reflect.TypeFor[Placement](): oneOf(map[string]Placement{"any": Placement(transport.AnyNode), "other-site": Placement(transport.OtherSite),
		"same-site": Placement(transport.SameSite)}, `"any", "other-site" or "same-site"`),
	reflect.TypeFor[statusLine](): oneOf(map[string]statusLine{"http": "http", "bare": "bare"}, `"http" or "bare"`),
	reflect.TypeFor[logFormat]():  oneOf(map[string]logFormat{"text": "text", "json": "json"}, `"text" or "json"`),
	reflect.TypeFor[certLife]():   parser(parseCertLife),
	reflect.TypeFor[hopCount]():   parser(parseHopCount),
	reflect.TypeFor[meshMode]():   oneOf(map[string]meshMode{"auto": "auto", "manual": MeshManual}, `"auto" or "manual"`),
	reflect.TypeFor[logLevel](): oneOf(map[string]logLevel{"debug": logLevel(slog.LevelDebug), "info": logLevel(slog.LevelInfo),
		"warn": logLevel(slog.LevelWarn), "error": logLevel(slog.LevelError)}, `"debug", "info", "warn" or "error"`),
}

func parser[T any](parse func(string) (T, error)) env.ParserFunc {
	return func(v string) (any, error) { return parse(v) }
}

// oneOf reads a word of a fixed set, in any case.
func oneOf[T any](words map[string]T, right string) env.ParserFunc {
	return func(v string) (any, error) {
		if t, ok := words[strings.ToLower(v)]; ok {
			return t, nil
		}
		return nil, errors.New(right)
	}
}

// ParseListenAddr reads host:port; the host may be empty, and the port 0. The error says what would be right.
func ParseListenAddr(v string) (ListenAddr, error) {
	host, port, err := net.SplitHostPort(v)
	if err != nil || !IsPort(port) || !IsHost(host) && host != "" {
		return "", errors.New("host:port with a port from 0 to 65535, such as 127.0.0.1:42424, [::1]:42424 or :42425")
	}
	return ListenAddr(v), nil
}

// mostBackups is more than anybody needs, and a typing error beyond.
const mostBackups = 8

func parseBackups(v string) (backups, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > mostBackups {
		return 0, fmt.Errorf("a number from 0 to %d", mostBackups)
	}
	return backups(n), nil
}

// ParsePeerAddrs reads host:port with commas between. The error says what would be right.
func ParsePeerAddrs(v string) (PeerAddrs, error) {
	var peers PeerAddrs
	for one := range strings.SplitSeq(v, ",") {
		one = strings.TrimSpace(one)
		host, port, err := net.SplitHostPort(one)
		if err != nil || !IsPort(port) || port == "0" || !IsHost(host) {
			return nil, errors.New("host:port with commas between, such as london.example.com:42425,10.0.0.7:42425")
		}
		peers = append(peers, one)
	}
	return peers, nil
}

// parseUpstream reads the address of the old state server.
func parseUpstream(v string) (upstreamAddr, error) {
	host, port, err := net.SplitHostPort(v)
	if err != nil || !IsHost(host) || !IsPort(port) || port == "0" {
		return "", errors.New("host:port of the old state server, such as 10.0.0.9:42424")
	}
	return upstreamAddr(v), nil
}

// IsPort tells whether v is a number from 0 to 65535.
func IsPort(v string) bool {
	_, err := strconv.ParseUint(v, 10, 16)
	return err == nil
}

// IsHost tells a name or an IP address from what cannot be either. It does not resolve it.
func IsHost(v string) bool {
	return v != "" && !strings.ContainsFunc(v, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`/\@"'`, r)
	})
}

const maxSiteName = 64 // letters

func parseSiteName(v string) (siteName, error) {
	if !utf8.ValidString(v) || utf8.RuneCountInString(v) > maxSiteName || strings.ContainsFunc(v, unicode.IsControl) {
		return "", errors.New("a name of at most 64 letters, such as london")
	}
	return siteName(v), nil
}

func parseAppAliases(v string) (appAliases, error) {
	a, err := proxy.ParseAliases(v)
	return appAliases{a}, err
}

func parseByteSize(v string) (byteSize, error) {
	n, err := humanize.ParseBytes(v)
	if err != nil || n == 0 || n > math.MaxInt32 {
		return 0, errors.New("a size from 1 byte to under 2GiB, such as 64MiB") // Content-Length is an int32 to ASP.NET
	}
	return byteSize(n), nil
}

// leastMemory holds some hundred sessions, and most of what there is room for is theirs.
const leastMemory = 1 << 20

func parseMemoryLimit(v string) (memoryLimit, error) {
	n, err := humanize.ParseBytes(v)
	if err != nil || n != 0 && n < leastMemory || n > math.MaxInt64/4 {
		return 0, errors.New("a size from 1MiB, such as 512MiB, or 0 for no limit")
	}
	return memoryLimit(n), nil
}

func parseCount(v string) (count, error) {
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < 1 {
		return 0, errors.New("a whole number from 1")
	}
	return count(n), nil
}

// MeshManual says that the operator draws the links.
const MeshManual meshMode = "manual"

func parseHopCount(v string) (hopCount, error) {
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < 1 || n > 64 {
		return 0, errors.New("a whole number from 1 to 64")
	}
	return hopCount(n), nil
}

func parseDuration(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		return 0, errors.New("a duration above 0 with its unit, such as 2500ms, 5s or 2m")
	}
	return d, nil
}

const (
	day           = 24 * time.Hour
	leastCertLife = time.Minute // leaves a node some time to renew its certificate in
	// MostCertDays is how long a certificate may last.
	MostCertDays = 36500
)

// parseCertLife takes days, which Go's durations have not, too.
func parseCertLife(v string) (certLife, error) {
	d, err := time.ParseDuration(v)
	if days, ok := strings.CutSuffix(v, "d"); ok {
		n, derr := strconv.ParseUint(days, 10, 16)
		d, err = time.Duration(n)*day, derr
	}
	if err != nil || d < leastCertLife || d > MostCertDays*day {
		return 0, fmt.Errorf("days such as 90d, or a duration of at least %v such as 36h, and at most %dd", leastCertLife, MostCertDays)
	}
	return certLife(d), nil
}

func parseLockWait(v string) (lockWait, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return 0, errors.New("a duration with its unit, such as 400ms, or 0 for not waiting")
	}
	return lockWait(d), nil
}

// OnStopKeep says that a stop leaves the sessions in the journal.
const OnStopKeep onStop = "keep"

// longestDataSync is more than anybody means: so much may be lost in a crash.
const longestDataSync = time.Minute

func parseDataSync(v string) (dataSync, error) {
	if strings.EqualFold(v, "always") {
		return 0, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 || d > longestDataSync {
		return 0, errors.New(`"always", or a duration above 0 and up to 1m with its unit, such as 100ms`)
	}
	return dataSync(d), nil
}

func parseBool(v string) (bool, error) {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, errors.New(`"true" or "false"`)
	}
	return b, nil
}

// IsLoopback tells whether only this machine can reach a server on that address.
func (a ListenAddr) IsLoopback() bool {
	host, _, err := net.SplitHostPort(string(a))
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// Reachable is an address under which a listener on a can be reached from this machine.
func (a ListenAddr) Reachable() string {
	host, port, err := net.SplitHostPort(string(a))
	if err != nil {
		return string(a)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
