package check

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"peerstate/cmd/peerstate/settings"
	"peerstate/transport"
)

// none fails unless nothing is found, or all of it is well.
func none(t *testing.T, findings []Finding) {
	t.Helper()
	for _, f := range findings {
		if f.Grade != Fine {
			t.Errorf("a %s: %s", gradeNames[f.Grade], f.What)
		}
	}
}

func TestCheckSaysWhoseClockIsWrong(t *testing.T) {
	const day = 24 * time.Hour
	type offsets = map[string]time.Duration
	none(t, judgeClocks(nil))
	want(t, judgeClocks(offsets{"b": time.Second, "c": -59 * time.Second}), Fine, "the clocks agree", "")
	want(t, judgeClocks(offsets{"b": time.Hour}), Doubtful, "the clock of b is 1h0m0s ahead of this machine's", "see which of the two is right")
	want(t, judgeClocks(offsets{"b": 0, "c": 0, "d": -day}), Doubtful, "the clock of d is 24h0m0s behind this machine's", "w32tm /resync")
	want(t, judgeClocks(offsets{"b": day, "c": day + time.Second, "d": day}), Doubtful, "this machine's clock is wrong: those of b, c, d are 24h0m0s ahead of it", "timedatectl")
}

func TestCheckSaysThatAFarmRunsSeveralVersions(t *testing.T) {
	type versions = map[string]string
	none(t, judgeVersions(versions{"a": "2.0", "b": "2.0"}))
	want(t, judgeVersions(versions{"a": "2.0", "b": "2.1", "c": "2.0", "d": ""}), Doubtful,
		"an older one that does not tell (d); 2.0 (a, c); 2.1 (b)", "install one version everywhere")
}

// lineOf gives the links of a farm that is a line, closed to a ring or not.
func lineOf(n int, closed bool) (links []transport.LinkStatus) {
	name := func(i int) string { return fmt.Sprintf("web%02d", i) }
	for i := 1; i < n; i++ {
		links = append(links, transport.LinkStatus{A: name(i - 1), B: name(i)})
	}
	if closed {
		links = append(links, transport.LinkStatus{A: name(0), B: name(n - 1)})
	}
	return links
}

func TestCheckFindsAFarmThatIsDeeperThanQuestionsGo(t *testing.T) {
	want(t, judgeDepth(lineOf(5, false), 5, 16), Fine, "two nodes are at most 4 links apart, and questions go over 16", "")
	want(t, judgeDepth(lineOf(18, false), 18, 16), Problem, "web00 and web17 are 17 links apart, and PEERSTATE_MAX_HOPS is 16", "set PEERSTATE_MAX_HOPS to 17 or more on every node")
	none(t, judgeDepth(lineOf(17, true), 17, 16))
	want(t, judgeDepth(lineOf(18, true), 18, 16), Doubtful, "when the link between web00 and web01 fails, web00 and web01 are 17 links apart", "17 or more")
	star := lineOf(5, false)
	for _, near := range []string{"web00", "web02", "web04"} {
		star = append(star, transport.LinkStatus{A: "hub", B: near})
	}
	want(t, judgeDepth(star, 6, 3), Doubtful, "when the node hub fails, web00 and web04 are 4 links apart", "4 or more")
	none(t, judgeDepth(nil, 1, 16))

	far := []transport.Probed{{Node: "web1", Reach: 17, Hops: 30}, {Node: "web2", Reach: 16, Hops: 30}, {Node: "older"}}
	want(t, judgeReach(far, 16), Problem, "from web2 it is 16 links to the farthest node, so up to 17 from here", "17 or more")
	none(t, judgeReach(far, 17))
	none(t, judgeReach(far[2:], 1))
}

func TestCheckLooksAtTheFarmAsTheRunningSidecarSeesIt(t *testing.T) {
	s := mustSettings(t, "PEERSTATE_MESH=manual", "PEERSTATE_CERT_DIR=certs", "PEERSTATE_MAX_HOPS=2")
	told := &Insight{Node: "web00", Version: "2.0", Links: lineOf(4, false), Peers: []Peer{
		{Node: "web01", Version: "2.1", State: transport.Up, Offset: 2 * time.Hour}, {Node: "web02", State: transport.Suspect},
		{Node: "web03", Version: "1.0", State: transport.Out, Offset: 3 * time.Hour}, {Addr: "10.0.0.1:42425", State: transport.Up}}}
	found := judgeFarm(s, told)
	want(t, found, Doubtful, "the clock of web01 is 2h0m0s ahead", "")
	want(t, found, Doubtful, "several versions of peerstate: 2.0 (web00); 2.1 (web01)", "")
	want(t, found, Problem, "web00 and web03 are 3 links apart, and PEERSTATE_MAX_HOPS is 2", "3 or more")
	if len(found) != 3 {
		t.Errorf("%+v", found)
	}
}

func TestCheckSaysThatBackupsCannotBeWhereTheyShould(t *testing.T) {
	at := func(sites ...string) (peers []Peer) {
		for _, site := range sites {
			peers = append(peers, Peer{Node: "n", Site: site})
		}
		return peers
	}
	other := &settings.Settings{Site: "london", Backups: 1, Placement: settings.Placement(transport.OtherSite)}
	want(t, judgePlaces(other, at("london", "london")), Doubtful, `all nodes are at the site "london"`, "PEERSTATE_SITE")
	none(t, judgePlaces(other, at("london", "tokyo")))
	same := &settings.Settings{Site: "london", Backups: 1, Placement: settings.Placement(transport.SameSite)}
	want(t, judgePlaces(same, at("paris", "tokyo")), Doubtful, `no other node is at the site "london"`, "PEERSTATE_SITE")
	none(t, judgePlaces(same, at("paris", "london")))
	none(t, judgePlaces(same, nil))
	none(t, judgePlaces(&settings.Settings{Site: "london", Placement: settings.Placement(transport.SameSite)}, at("tokyo")))
}

func TestCheckTellsUDPThatIsBlockedFromAPortWhereNobodyIs(t *testing.T) {
	dir := nodeDir(t, time.Now(), time.Hour)
	socket := func() net.PacketConn {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	silent, closed := socket(), socket()
	for _, conn := range []net.PacketConn{silent, closed} {
		defer conn.Close()
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	peers := settings.PeerAddrs{silent.LocalAddr().String(), closed.LocalAddr().String(), "no-such-name.invalid:42425"}
	found, _ := checkPeers(t.Context(), &settings.Settings{CertDir: dir, Peers: peers, MaxHops: 16}, nil, "1.0")
	want(t, found, Problem, peers[0]+": UDP is blocked on the way, or nobody is there: no answer at all", "let UDP through to that port in the firewalls")
	want(t, found, Problem, peers[1]+": the machine answers, but nobody listens on that UDP port", "start peerstate there")
	want(t, found, Problem, "the name cannot be resolved", "PEERSTATE_PEERS")
}

func TestCheckAsksForThoseThatTheRunningNodeDoesNotReach(t *testing.T) {
	peers := []Peer{{Node: "up", Addr: "10.0.0.1:1", State: transport.Up}, {Node: "out", Addr: "10.0.0.2:1", State: transport.Out},
		{Node: "lost", Addr: "10.0.0.3:1", State: transport.Lost}, {Addr: "10.0.0.4:1", State: transport.Refused}}
	if got := missed([]string{"10.0.0.4:1"}, peers); !slices.Equal(got, []string{"10.0.0.4:1", "10.0.0.2:1"}) {
		t.Error(got)
	}
}
