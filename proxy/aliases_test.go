package proxy

import (
	"strings"
	"testing"
)

const sessionID = "mbkzjsnmvgpbxytfdrlwhq5e"

func mustAliases(t testing.TB, text string) *Aliases {
	t.Helper()
	a, err := ParseAliases(text)
	if err != nil {
		t.Fatalf("%s: it should be %v", text, err)
	}
	return a
}

func TestAnAliasWithItsHashMeansThatIDOnly(t *testing.T) {
	a := mustAliases(t, "/LM/W3SVC/7/ROOT(b+7/=)=/LM/W3SVC/1/ROOT(a1==), LM/W3SVC/1/root(c=)=/LM/W3SVC/1/ROOT(a1==)")
	for from, to := range map[string]string{
		"LM/W3SVC/7/ROOT(b+7/=)/id":    "LM/W3SVC/1/ROOT(a1==)/id",
		"LM/W3SVC/1/root(c=)/id":       "LM/W3SVC/1/ROOT(a1==)/id",
		"LM/W3SVC/1/ROOT(a1==)/id":     "LM/W3SVC/1/ROOT(a1==)/id",
		"LM/W3SVC/7/ROOT(other=)/id":   "LM/W3SVC/7/ROOT(other=)/id",
		"LM/W3SVC/7/ROOT/id":           "LM/W3SVC/7/ROOT/id",
		"LM/W3SVC/7/root(b+7/=)/id":    "LM/W3SVC/7/root(b+7/=)/id",
		"LM/W3SVC/7/ROOT(b+7/=)/a/id":  "LM/W3SVC/7/ROOT(b+7/=)/a/id",
		"LM/W3SVC/7/ROOT(b+7/=)":       "LM/W3SVC/7/ROOT(b+7/=)",
		"x/LM/W3SVC/7/ROOT(b+7/=)/id":  "x/LM/W3SVC/7/ROOT(b+7/=)/id",
		"noslash":                      "noslash",
		"LM/W3SVC/7/ROOT(b+7/=)/":      "LM/W3SVC/1/ROOT(a1==)/",
		"LM/W3SVC/77/ROOT(b+7/=)/7id7": "LM/W3SVC/77/ROOT(b+7/=)/7id7",
	} {
		if got := string(a.Apply([]byte(from))); got != to {
			t.Errorf("%s is kept under %s, want %s", from, got, to)
		}
	}
}

// Without hashes, as people write them, all that is one of the applications is kept under one key: that which today's
// framework has for the one on the right, so that its sessions stay where they are.
func TestAnAliasWithoutHashMeansTheApplicationWhateverItsHash(t *testing.T) {
	a := mustAliases(t, "/LM/W3SVC/7/ROOT=/LM/W3SVC/1/ROOT")
	// SHA-256 of "/LM/W3SVC/1/ROOT", by sha256sum.
	const want = "LM/W3SVC/1/ROOT(cAHkmVhipCLv/QnONQmPsKL+q/AjnK/nYS9aV3Zlad8=)/" + sessionID
	for _, app := range []string{"LM/W3SVC/7/ROOT(x=)", "LM/W3SVC/7/ROOT(y/z+w=)", "LM/W3SVC/7/ROOT", "LM/W3SVC/1/ROOT(x=)", "LM/W3SVC/1/ROOT",
		strings.TrimSuffix(want, "/"+sessionID)} {
		if got := string(a.Apply([]byte(app + "/" + sessionID))); got != want {
			t.Errorf("%s is kept under %s, want %s", app, got, want)
		}
	}
	for _, other := range []string{"LM/W3SVC/70/ROOT(x=)/i", "LM/W3SVC/7/ROOT/shop(x=)/i", "LM/W3SVC/7/root(x=)/i", "LM/W3SVC/7/ROOT(in brackets)/i"} {
		if got := string(a.Apply([]byte(other))); got != other {
			t.Errorf("%s, which is another application, is kept under %s", other, got)
		}
	}
}

func TestAnAliasMayBeWrittenAsOnTheWire(t *testing.T) {
	a := mustAliases(t, "%2fLM%2fW3SVC%2f7%2fROOT%2fa%2cb(x%2by%3d)=%2FLM/W3SVC/1/ROOT/a%2cb(x%2by%3d)")
	if got := string(a.Apply([]byte("LM/W3SVC/7/ROOT/a,b(x+y=)/i"))); got != "LM/W3SVC/1/ROOT/a,b(x+y=)/i" {
		t.Error(got)
	}
}

func TestAliasesThatCannotBeMeantAreRefused(t *testing.T) {
	for text, why := range map[string]string{
		"":                       "pairs of application ids",
		"/a":                     "pairs of application ids",
		"/a=/b=/c":               "pairs of application ids",
		"/a=/b,":                 "pairs of application ids",
		"=/b":                    "is none",
		"/a=":                    "is none",
		"/a=/":                   "is none",
		"/a=/b/":                 "ends in one",
		"/a%zz=/b":               "is none",
		"/a=/a":                  "on both sides",
		"/a=a":                   "on both sides",
		"/a=/b,/b=/c":            `"/b" stands on the left of another one`,
		"/b=/c,/a=/b":            `"/b" stands on the left of another one`,
		"/a=/b,/b=/a":            "stands on the left of another one",
		"/a=/b,/a=/c":            `"/a" has two`,
		"/a(x)=/b(x),/a(x)=/c":   `"/a(x)" has two`,
		"/a=/b,/a(x)=/c":         `"/a(x)" is covered by that for "/a"`,
		"/a(x)=/c,/a=/b":         `"/a(x)" is covered by that for "/a"`,
		"/a(x)=/b(y),/b=/c":      `"/b(y)" stands on the left of another one`,
		"/a(x)=/b,/b(y)=/c":      `"/b" stands on the left of another one`,
		"/a(x)=/b(y),/b(y)=/c":   `"/b(y)" stands on the left of another one`,
		"/a(x)=/a":               `"/a" stands on the left of another one`,
		"/LM/W3SVC/7/ROOT(a=b=c": "pairs of application ids",
	} {
		if _, err := ParseAliases(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", text, err, why)
		}
	}
	mustAliases(t, "/a(x)=/a(y)") // one application under two frameworks
	mustAliases(t, "/a=/c,/b=/c")
}

func TestOneDigestOfTheSameAliases(t *testing.T) {
	a, b := mustAliases(t, "/a=/c,/b(x)=/c(y)"), mustAliases(t, "b(x)=c(y), %2fa=/c")
	if a.Digest() != b.Digest() || len(a.Digest()) != 16 {
		t.Errorf("%s and %s", a.Digest(), b.Digest())
	}
	other := mustAliases(t, "/a=/c,/b(x)=/c(z)")
	if a.Digest() == other.Digest() || a.Digest() == (*Aliases)(nil).Digest() {
		t.Error("others have the same digest")
	}
}

// What comes under both ids is one session, in every request.
func TestAnAliasIsAppliedBeforeAnythingElse(t *testing.T) {
	_, addr := serve(t, Config{Aliases: mustAliases(t, "/LM/W3SVC/7/ROOT(b=)=/LM/W3SVC/1/ROOT(a=)")}, nil)
	seven, one := "%2fLM%2fW3SVC%2f7%2fROOT(b%3d)%2fid", "%2fLM%2fW3SVC%2f1%2fROOT(a%3d)%2fid"
	client := dial(t, addr)
	for _, step := range []struct {
		request string
		status  int
	}{
		{"PUT " + seven + " HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 200},
		{"GET " + one + " HTTP/1.1\r\nExclusive: acquire\r\n\r\n", 200},
		{"GET " + seven + " HTTP/1.1\r\nExclusive: acquire\r\n\r\n", 423},
		{"PUT " + seven + " HTTP/1.1\r\nLockCookie: 2\r\nContent-Length: 3\r\n\r\ndef", 200},
		{"DELETE " + one + " HTTP/1.1\r\n\r\n", 200},
		{"HEAD " + seven + " HTTP/1.1\r\n\r\n", 404},
	} {
		client.send(step.request)
		if got, err := client.receive(); err != nil || got.status() != step.status {
			t.Fatalf("%s is answered %d (%v), want %d", strings.TrimSpace(step.request), got.status(), err, step.status)
		}
	}
}

func TestWithAliasesARequestAllocatesNothingButAPutsBody(t *testing.T) {
	aliases := mustAliases(t, "/LM/W3SVC/7/ROOT=/LM/W3SVC/1/ROOT/longer,/LM/W3SVC/9/ROOT/quite/long(x=)=/s(x=)")
	st := newStore(t)
	s := New(Config{Store: st, Aliases: aliases})
	for _, app := range []string{"%2fLM%2fW3SVC%2f7%2fROOT(b%3d)", "%2fLM%2fW3SVC%2f9%2fROOT%2fquite%2flong(x%3d)", "%2fLM%2fW3SVC%2f8%2fROOT(b%3d)"} {
		one, two := "GET "+app+"%2fid HTTP/1.1\r\n\r\n", "GET "+app+"%2fdi HTTP/1.1\r\n\r\n"
		c := newConn(s, &script{in: []byte(one + two), repeat: true, forget: true})
		for range 2 {
			if !c.exchange() {
				t.Fatal("the connection has ended")
			}
		}
		if got := testing.AllocsPerRun(200, func() { c.exchange() }); got != 0 {
			t.Errorf("%s: %v allocations", app, got)
		}
	}
}

func TestAKeyIsReadAsPeopleWriteIt(t *testing.T) {
	a := mustAliases(t, "/a(h+=)=/b(h+=)")
	for written, want := range map[string]string{
		"/x/y(h+=)/id": "x/y(h+=)/id", "%2fx%2fy(h%2b%3d)%2fid": "x/y(h+=)/id", "a(h+=)/id": "b(h+=)/id",
	} {
		if got, err := a.Key(written); err != nil || got != want {
			t.Errorf("%s: %q, %v", written, got, err)
		}
	}
	if _, err := a.Key("%zz"); err == nil {
		t.Error("a broken code is taken")
	}
}

// FuzzAliases: what is taken as aliases applies once, and what it gives is kept under itself.
func FuzzAliases(f *testing.F) {
	f.Add("/LM/W3SVC/7/ROOT(b=)=/LM/W3SVC/1/ROOT(a=)", "LM/W3SVC/7/ROOT(b=)/x")
	f.Add("/a=/b,/c(x)=/b", "c(x)/id")
	f.Add("/a%2c=b,(=)=x", "a,/")
	f.Fuzz(func(t *testing.T, text, key string) {
		a, err := ParseAliases(text)
		if err != nil {
			return
		}
		once := string(a.Apply([]byte(key)))
		if twice := string(a.Apply([]byte(once))); twice != once {
			t.Errorf("%q is kept under %q, and that under %q", key, once, twice)
		}
		if key[strings.LastIndexByte(key, '/')+1:] != once[strings.LastIndexByte(once, '/')+1:] {
			t.Errorf("the session id of %q is another in %q", key, once)
		}
	})
}

func BenchmarkAliases(b *testing.B) {
	for what, text := range map[string]string{"none": "", "one": "/LM/W3SVC/7/ROOT=/LM/W3SVC/1/ROOT"} {
		b.Run(what, func(b *testing.B) {
			var a *Aliases
			if text != "" {
				a = mustAliases(b, text)
			}
			key := make([]byte, 0, 200)
			for i := 0; b.Loop(); i++ {
				key = a.Apply(append(key[:0], "LM/W3SVC/7/ROOT(iE+KOE6biE+KOE6biE+KOE6biE+KOE6biE+KOE6biE=)/mbkzjsnmvgpbxytfdrlwhq5e"...))
			}
			if len(key) == 0 {
				b.Error("no key is left")
			}
		})
	}
}
