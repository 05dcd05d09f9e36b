package explain

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"peerstate/proxy"
	"peerstate/store"
	"peerstate/transport"
)

const (
	explainID = "mbkzjsnmvgpbxytfdrlwhq5e"
	appOne    = "LM/W3SVC/1/ROOT(a=)"
	appSeven  = "LM/W3SVC/7/ROOT(b=)"
)

// at is the moment of all these explanations.
var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func account(node string, traces ...transport.Trace) transport.Account {
	return transport.Account{Node: node, Site: "site-" + node, State: transport.Up, Up: time.Hour, Memory: time.Hour, Traces: traces}
}

func notAsked(node string, state transport.State, why string) transport.Account {
	return transport.Account{Node: node, State: state, NotAsked: why}
}

func traced(state store.TraceState, change func(*transport.Trace)) transport.Trace {
	x := transport.Trace{Trace: store.Trace{State: state, Hash: "5f1d03aa", App: appOne, Stamp: store.Stamp(at.Add(-5 * time.Minute).UnixNano()),
		Size: 2048, Timeout: 20, Left: 15 * time.Minute}}
	if change != nil {
		change(&x)
	}
	return x
}

func page(by store.Lookup, accounts ...transport.Account) string {
	return Text(Of(by, accounts, "", at), time.UTC)
}

func wantPage(t *testing.T, got, want string) {
	t.Helper()
	if d := cmp.Diff(strings.TrimPrefix(want, "\n"), got); d != "" {
		t.Errorf("%s\nwhich is not what it should be: %s", got, d)
	}
}

func TestThePageOfASessionThatIsThere(t *testing.T) {
	holder := traced(store.TraceHeld, func(x *transport.Trace) {
		x.Lock, x.LockAge, x.Waiting, x.Since, x.Epoch = 7, 12*time.Second, 2, 4*time.Minute, 2
		x.Client = &transport.Client{Addr: "127.0.0.1:50123", Open: true, Process: "w3wp.exe", PID: 4711}
		x.Copies = []store.TraceCopy{{Node: "paris", Current: true}, {Node: "rome"}}
		x.Events = []store.TraceEvent{{What: store.EventCame, Peer: "tokyo", Ago: 4 * time.Minute}}
	})
	giver := traced(store.TraceMoved, func(x *transport.Trace) {
		x.Peer = "london"
		x.Events = []store.TraceEvent{{What: store.EventCreated, Ago: 25 * time.Hour}, {What: store.EventGiven, Peer: "london", Ago: 4*time.Minute - time.Second}}
	})
	wantPage(t, page(store.Lookup{ID: explainID}, account("tokyo", giver), account("london", holder),
		account("paris", traced(store.TraceBackup, func(x *transport.Trace) { x.Peer = "london" })),
		account("oslo", traced(store.TraceBackup, func(x *transport.Trace) { x.Peer, x.Stamp = "tokyo", firstStamp })),
		notAsked("rome", transport.Up, "its release is too old to be asked")), `
Session 5f1d03aa, of the application /LM/W3SVC/1/ROOT(a=)

  held by        london, since 11:56:00 (4 min 0 s ago)
  lock           cookie 7, for 12.0 s
                 taken over the web server's connection from 127.0.0.1:50123, which is open:
                 w3wp.exe, process 4711 on london's machine. Other pages use the connection, too
  waiting        2, requests and other nodes
  size           2.0 kB
  timeout        20 min; if nobody asks for it, it expires at 12:15:00 (in 15 min 0 s)
  last written   11:55:00 (5 min 0 s ago)
  moved          2 times so far
  backups        oslo, an older copy from when tokyo held it, which it will forget
                 paris, with the last change
                 rome, which has not said yet that it has the last change
  what happened  2026-02-28 11:00:00 created on tokyo
                 11:56:00 tokyo gave it to london

Asked: tokyo, london, paris, oslo
Not asked: rome: its release is too old to be asked
`)
}

func TestThePageOfASessionWithOtherLocks(t *testing.T) {
	for what, c := range map[string]struct {
		client *transport.Client
		want   string
	}{
		"closed":          {&transport.Client{Addr: "127.0.0.1:50123"}, "from 127.0.0.1:50123, which is closed by"},
		"another account": {&transport.Client{Addr: "127.0.0.1:50123", Open: true}, "cannot be seen by the account of the sidecar"},
		"no name":         {&transport.Client{Addr: "127.0.0.1:50123", Open: true, PID: 5}, "a process whose name cannot be seen, process 5"},
		"from elsewhere":  {nil, "taken on another node"},
	} {
		got := page(store.Lookup{ID: explainID}, account("london", traced(store.TraceHeld, func(x *transport.Trace) { x.Lock, x.Client = 2, c.client })))
		if flat := strings.Join(strings.Fields(got), " "); !strings.Contains(flat, c.want) || !strings.Contains(flat, "since before 11:00:00") {
			t.Errorf("%s: %s", what, got)
		}
	}
}

func TestThePageOfASessionThatIsNowhere(t *testing.T) {
	young := account("paris")
	young.Up, young.Memory = 5*time.Minute, 5*time.Minute
	full := account("london")
	full.Memory = 10 * time.Minute
	wantPage(t, page(store.Lookup{ID: explainID}, full, young, notAsked("tokyo", transport.Out, "it is out for 20s (nothing was heard from it for 5 s)"),
		notAsked("oslo", transport.Lost, "it is lost for 2h0m0s")), `
There is no such session on the nodes that were asked.

What is known, and what may be the reason

  - tokyo could not be asked, and may have it: it is out for 20s (nothing was heard from it for 5
    s).
  - oslo is gone: it is lost for 2h0m0s. What only that node held is lost.
  - Nothing is known of it. Either there never was one, or the id is written wrong, or it ended
    longer ago than the nodes remember:
  - london remembers ended sessions since 11:50:00 (10 min 0 s ago).
  - paris remembers ended sessions since it started, at 11:55:00 (5 min 0 s ago).

Asked: london, paris
Not asked: tokyo: it is out for 20s (nothing was heard from it for 5 s)
Not asked: oslo: it is lost for 2h0m0s
`)
}

func TestThePageSaysThatTheOldStateServerMayHaveASession(t *testing.T) {
	const says = "The old state server 10.0.0.9:42424 (PEERSTATE_UPSTREAM) was not asked, and may have it"
	for what, c := range map[string]struct {
		account transport.Account
		said    bool
	}{
		"it is nowhere here":   {account("london"), true},
		"it has ended here":    {account("london", traced(store.TraceDeleted, nil)), true},
		"it is held by a node": {account("london", traced(store.TraceHeld, nil)), false},
	} {
		got := Text(Of(store.Lookup{ID: explainID}, []transport.Account{c.account}, "10.0.0.9:42424", at), time.UTC)
		if strings.Contains(strings.Join(strings.Fields(got), " "), says) != c.said {
			t.Errorf("%s: %s", what, got)
		}
	}
}

func TestThePageSaysHowASessionEnded(t *testing.T) {
	expired := traced(store.TraceEnded, func(x *transport.Trace) {
		x.Events = []store.TraceEvent{{What: store.EventCreated, Ago: 30 * time.Minute}, {What: store.EventExpired, Ago: 5 * time.Minute}}
	})
	wantPage(t, page(store.Lookup{ID: explainID}, account("london", expired)), `
There is no such session on the nodes that were asked.

Session 5f1d03aa, of the application /LM/W3SVC/1/ROOT(a=), is over

  what happened  11:30:00 created on london
                 11:55:00 expired on london

What is known, and what may be the reason

  - It was there under /LM/W3SVC/1/ROOT(a=), and expired on london at 11:55:00, 5 min 0 s ago:
    nobody had asked for it in its time.

Asked: london
`)
	deleted := func(ago time.Duration) transport.Trace {
		return traced(store.TraceDeleted, func(x *transport.Trace) {
			x.Events = []store.TraceEvent{{What: store.EventDeleted, Ago: ago}}
		})
	}
	got := page(store.Lookup{ID: explainID}, account("london", deleted(time.Minute)), account("tokyo", deleted(59*time.Second)))
	if !strings.Contains(got, "was deleted at 11:59:00, 1 min 0 s ago") || strings.Count(got, "deleted, as") != 1 {
		t.Error(got)
	}
	noted := page(store.Lookup{ID: explainID}, account("london", traced(store.TraceDeleted, nil)))
	if !strings.Contains(noted, "was deleted at 11:55:00, 5 min 0 s ago") {
		t.Error(noted)
	}
}

func TestThePageFindsTheMistakeOfSiteNumbers(t *testing.T) {
	one := traced(store.TraceHeld, nil)
	seven := traced(store.TraceHeld, func(x *transport.Trace) { x.App, x.Hash = appSeven, "00112233" })
	const line = "PEERSTATE_APP_ALIASES=/LM/W3SVC/7/ROOT(b=)=/LM/W3SVC/1/ROOT(a=)"
	flat := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	for what, got := range map[string]string{
		"both are there":         page(store.Lookup{ID: explainID}, account("london", one), account("tokyo", seven)),
		"the other one is there": page(store.Lookup{Key: appSeven + "/" + explainID, ID: explainID}, account("london", one)),
	} {
		if !strings.Contains(flat(got), "are they one application") || !strings.Contains(got, line) {
			t.Errorf("%s: %s", what, got)
		}
	}
	other := traced(store.TraceHeld, func(x *transport.Trace) { x.App = "LM/W3SVC/7/ROOT/shop(b=)" })
	got := page(store.Lookup{ID: explainID}, account("london", one, other))
	if strings.Contains(got, "PEERSTATE_APP_ALIASES") || !strings.Contains(flat(got), "That is normal.") {
		t.Error(got)
	}
	aliases, err := proxy.ParseAliases(strings.TrimPrefix(line, "PEERSTATE_APP_ALIASES="))
	if err != nil {
		t.Fatal(err)
	}
	if key, err := aliases.Key(appSeven + "/id"); err != nil || key != appOne+"/id" {
		t.Errorf("the line that is given makes %q (%v)", key, err)
	}
	odd := transport.MistakeOf("LM/W3SVC/2/a,b=(c)%+(b+=)", "LM/W3SVC/1/a,b=(c)%+(a+=)")
	if aliases, err = proxy.ParseAliases(odd.Alias()); err != nil {
		t.Fatal(err)
	}
	if got := string(aliases.Apply([]byte("LM/W3SVC/2/a,b=(c)%+(b+=)/id"))); got != "LM/W3SVC/1/a,b=(c)%+(a+=)/id" {
		t.Errorf("the line %s makes %q", odd.Alias(), got)
	}
}

func TestThePageSaysWhatIsOddAboutASession(t *testing.T) {
	upper := traced(store.TraceHeld, func(x *transport.Trace) { x.OtherCase = true })
	doubt := traced(store.TraceDoubt, func(x *transport.Trace) { x.Peer = "tokyo" })
	kept := traced(store.TraceBackup, func(x *transport.Trace) { x.Peer = "tokyo" })
	loaded := traced(store.TraceLoaded, func(x *transport.Trace) { x.Peer = "london" })
	ended := traced(store.TraceDeleted, func(x *transport.Trace) { x.OtherCase = true })
	for want, got := range map[string]string{
		"written in another letter case than that":      page(store.Lookup{ID: explainID}, account("london", ended)),
		"written in another letter case":                page(store.Lookup{ID: explainID}, account("london", upper)),
		"There is no session with the very id":          page(store.Lookup{ID: explainID}, account("london", upper)),
		"does not know whether it arrived":              page(store.Lookup{ID: explainID}, account("london", doubt)),
		"london keeps a backup of what tokyo held":      page(store.Lookup{ID: explainID}, account("london", kept), notAsked("tokyo", transport.Out, "it is out for 7s")),
		"tokyo, as its backups say":                     page(store.Lookup{ID: explainID}, account("london", kept), notAsked("tokyo", transport.Up, "it is too old")),
		"london has a copy from its journal":            page(store.Lookup{ID: explainID}, account("london", loaded)),
		"There are more sessions that fit than are sho": page(store.Lookup{ID: explainID}, transport.Account{Node: "london", More: true}),
	} {
		if !strings.Contains(strings.Join(strings.Fields(got), " "), want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
}

func TestAnExplanationAsJSONHasNoSessionIDInIt(t *testing.T) {
	x := Of(store.Lookup{Key: appOne + "/" + explainID, ID: explainID}, []transport.Account{account("london", traced(store.TraceHeld, func(x *transport.Trace) { x.Asked = true }))}, "", at)
	data, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), explainID) || !strings.Contains(string(data), `"found":true`) || !strings.Contains(string(data), `"holder":"london"`) {
		t.Errorf("%s", data)
	}
}

func TestLinesAreWrappedAndLongWordsStayWhole(t *testing.T) {
	long := strings.Repeat("x", 150)
	if got := wrap("- ", "a "+long+" b"); got != "- a\n  "+long+"\n  b\n" {
		t.Errorf("%q", got)
	}
	if got := wrap("Asked: ", ""); got != "Asked: \n" {
		t.Errorf("%q", got)
	}
}
