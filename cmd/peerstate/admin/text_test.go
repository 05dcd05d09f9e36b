package admin

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// shop is a farm of three of which one is out, while the CA is replaced.
func shop() Page {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	ms, half, most, sessions, end := 12.5, 0.031, 0.52, int64(9413), now.Add(81*24*time.Hour)
	sample := Sample{Requests: 1052, Fetches: 13, P50: &half, P99: &most, Fetch50: &ms, Fetch99: &ms, Waiting: 3, Pending: 2, PendFor: 0.004}
	return Page{
		Now: now, Mesh: "auto", WantedBackups: 1, Keepers: 1, RotationDone: "done", Warnings: []string{"peer web3 is out: nothing was heard from it for 5 s"},
		Status: Status{Node: "web1", Site: "london", Farm: "shop", Version: "1.4.0", UptimeSeconds: 273_600,
			Sessions: Sessions{Active: 12345, Bytes: 35_000_000, Backups: 11_870}, Memory: Memory{Used: 60, Limit: 100},
			Largest: []Large{{"a1b2c3d4", 8_400_000}},
			Peers: []Peer{
				{Node: "web2", Site: "tokyo", State: "up", Hops: 1, RTTMillis: &ms, Since: now.Add(-7 * time.Hour), Sessions: &sessions, CertExpires: &end, Rotation: "done", Issuer: true},
				{Node: "web3", Site: "paris", State: "out", Since: now.Add(-3 * time.Minute), Reason: "nothing was heard from it for 5 s", Rotation: "behind"}},
			Links:       []Link{{"web1", "web2", &ms}},
			Certificate: &Certificate{Node: "web1", Expires: end, CAExpires: now.AddDate(9, 0, 0), Rotation: "renew"}},
		Samples:   []Sample{sample, sample},
		Contended: []Contended{{Hash: "3fa94c21", Met: 412, LongestMS: 398, Waiting: 3}}, ContendedOver: 480,
		Events: []Event{{Number: 2, At: now, Level: "warn", Text: "a link has ended", Details: []Detail{{"peer", "web3"}}, Times: 2}, {Number: 1, At: now, Level: "info", Text: "ready", Times: 1}},
	}
}

func TestTheStatusAsTextHasWhatThePageHas(t *testing.T) {
	text := shop().Text(false, 10)
	for _, want := range []string{
		"web1  london, farm shop, up 3 d 4 h, peerstate 1.4.0", "ready", "warning: peer web3 is out: nothing was heard from it for 5 s",
		"12,345 held (35 MB); keeps 11,870 backups for other nodes", "60% used of 100 B", "1,052 a second; half within 31 µs, 99% within 0.52 ms",
		"3 for a session that is locked", "98.8% of the requests; 13 a second asked other nodes; half within 13 ms, 99% within 13 ms", "2 sessions; the oldest change waits for 4.0 ms",
		"3, with 1 link; 1 not up", "81 days left, until 2026-05-24; the farm's CA: 9.0 years left, until 2035-03-04", "Issuer          web2",
		"step 2 of 3, renew with it: 2 of 3 nodes done; waiting for web3 (out)", "3fa94c21", "412", "398 ms", "a1b2c3d4  8.4 MB",
		"warning: a link has ended (2 times)  peer=web3", "over the last 8 min",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	for _, row := range []string{
		`(?m)^  node +site +state +for +round trip +sessions +certificate +new CA +why$`,
		`(?m)^  web1 +london +this node +12,345 +81 days +done$`,
		`(?m)^  web2 +tokyo +up +7 h 0 min +13 ms +9,413 +81 days +done$`,
		`(?m)^  web3 +paris +out +3 min +- +behind +nothing was heard from it for 5 s$`,
	} {
		if !regexp.MustCompile(row).MatchString(text) {
			t.Errorf("no row %s", row)
		}
	}
	if strings.Contains(text, "\x1b") || strings.Contains(text, " \n") {
		t.Error("there are escape sequences, or blanks at the end of a line")
	}
	if t.Failed() {
		t.Log(text)
	}
	left := shop()
	left.Status.Peers[1].State = "drained"
	if text := left.Text(false, 1); !strings.Contains(text, "waiting for web3 (drained)") {
		t.Errorf("a node that has left is waited for, and is not named in\n%s", text)
	}
	left.Status.Sessions.Backups = 1
	if text := left.Text(false, 1); !strings.Contains(text, "3, with 1 link; 1 drained, all others are up") || !strings.Contains(text, "; keeps 1 backup for other nodes") {
		t.Errorf("a node has left, and one backup is kept, and the text is\n%s", text)
	}
	for _, c := range []struct {
		states [2]string
		self   bool
		want   string
	}{
		{[2]string{"up", "out"}, false, "web2"},
		{[2]string{"out", "up"}, false, "web3"},
		{[2]string{"out", "lost"}, false, "web3, which is lost"},
		{[2]string{"out", "lost"}, true, "this node"},
	} {
		p := shop()
		p.Issuer = c.self
		for i := range p.Status.Peers {
			p.Status.Peers[i].Issuer, p.Status.Peers[i].State = true, c.states[i]
		}
		if text := p.Text(false, 1); !strings.Contains(text, "Issuer          "+c.want+"\n") {
			t.Errorf("with two former issuers that are %q it is not %s in\n%s", c.states, c.want, text)
		}
	}
	if few := shop().Text(false, 1); strings.Contains(few, "Events") == false || strings.Contains(few, "  ready\n") {
		t.Errorf("with one event:\n%s", few)
	}
}

func TestColoursOnlyColour(t *testing.T) {
	coloured := shop().Text(true, 10)
	if !strings.Contains(coloured, "\x1b[31mout\x1b[0m") || !strings.Contains(coloured, "\x1b[32mup\x1b[0m") {
		t.Error("what is up is not green, or what is out not red")
	}
	if plain := regexp.MustCompile("\x1b\\[\\d+m").ReplaceAllString(coloured, ""); plain != shop().Text(false, 10) {
		t.Errorf("without its colours the text is another one:\n%s", plain)
	}
}

func TestAStandAloneNodeAndOneThatHasJustBegunHaveAStatusAsText(t *testing.T) {
	p := Page{Reason: "starting", Status: Status{Node: "web1", Version: "1"}}
	text := p.Text(false, 10)
	for _, want := range []string{"web1  stand-alone, up 0 s, peerstate 1\nnot ready: starting\n", "0 held (0 B)\n", "the first figures come in a moment"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, no := range []string{"Nodes", "Certificate", "Events", "Largest", "Memory"} {
		if strings.Contains(text, no) {
			t.Errorf("%q in\n%s", no, text)
		}
	}
}

func TestASessionWithoutAKeeperIsNotCalledSafe(t *testing.T) {
	p := shop()
	p.Keepers = 0
	if text := p.Text(false, 0); !strings.Contains(text, "too few other nodes can keep backups") {
		t.Error(text)
	}
}

func TestWhatPeersSayDoesNotMoveTheCursorOfATerminal(t *testing.T) {
	for _, e := range append(evil, "\x1b[2J\x1b]0;pwned\x07", "a\rb\nc\td", "\x9b31m", "\xff\xfe") {
		p := hostile()
		p.Status.Peers[0].Node, p.Status.Site, p.Reason, p.Events[0].Text, p.Warnings = e, e, e, e, []string{e}
		for i, line := range strings.Split(p.Text(false, 100), "\n") {
			for _, r := range line {
				if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e || r == 0xfffd {
					t.Errorf("with %q: %q in line %d: %q", e, r, i, line)
				}
			}
		}
	}
}
