package certs

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func someToken() *Token {
	return &Token{
		Farm: "farm", Node: "web3", Issuer: "web1", Addrs: []string{"192.0.2.1:42425", "[2001:db8::1]:42425", "web1.example:42425"},
		CA: []string{strings.Repeat("ab", 32)}, Expires: noon.Add(time.Hour), secret: bytes.Repeat([]byte{7}, secretSize),
	}
}

func textOf(t testing.TB, token *Token) string {
	t.Helper()
	text, err := token.Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAnInvitationIsReadAsItWasWrittenWhateverTheTerminalDidToIt(t *testing.T) {
	want := someToken()
	text := textOf(t, want)
	if strings.ContainsAny(text, " \n") || !strings.HasPrefix(text, "peerstate1-") {
		t.Errorf("%q is not one word", text)
	}
	for name, s := range map[string]string{
		"as it is":       text,
		"a line break":   "\ufeff" + text[:80] + "\r\n  " + text[80:] + "\n",
		"broken all way": strings.Join(strings.Split(text, ""), " "),
	} {
		got, err := parseToken(s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got, cmp.AllowUnexported(Token{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestADamagedInvitationIsSaidToBeThat(t *testing.T) {
	text := textOf(t, someToken())
	for at := range len(text) {
		if _, err := parseToken(text[:at]); err == nil || at > len(tokenWord)+tokenHead && !strings.Contains(err.Error(), "cut off") {
			t.Fatalf("cut off at %d: %v", at, err)
		}
	}
	for at := len(tokenWord); at < len(text); at++ {
		for _, c := range []string{"A", "z", "-"} {
			wrong := text[:at] + c + text[at+1:]
			if _, err := parseToken(wrong); wrong != text && err == nil {
				t.Fatalf("character %d may be %s", at, c)
			} else if wrong != text && at >= len(tokenWord)+tokenHead && !strings.Contains(err.Error(), "a character in the invitation is wrong") {
				t.Fatalf("character %d is %s: %v", at, c, err)
			}
		}
	}
	for s, says := range map[string]string{
		"":                              "this is no invitation",
		"hello":                         "this is no invitation",
		"peerstate1-":                   "cut off",
		"peerstate1-xxx":                "cannot be read",
		text + "x":                      "characters where there should be",
		text + text:                     "characters where there should be",
		text[:40] + "?" + text[41:]:     "character 41 of the invitation does not belong there",
		text[:40] + "é" + text[41:]:     "character 41 of the invitation does not belong there",
		strings.Repeat("x", 5*maxToken): "at most",
	} {
		if _, err := parseToken(s); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60q: error %v, want one with %q", s, err, says)
		}
	}
}

func TestAnInvitationThatMakesNoSenseIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Token){
		"no farm":          func(t *Token) { t.Farm = "" },
		"no node":          func(t *Token) { t.Node = "" },
		"a bad name":       func(t *Token) { t.Node = "../x" },
		"no issuer":        func(t *Token) { t.Issuer = "" },
		"itself":           func(t *Token) { t.Issuer = t.Node },
		"no address":       func(t *Token) { t.Addrs = nil },
		"too many":         func(t *Token) { t.Addrs = slicesRepeat("a:1", maxAddrs+1) },
		"no port":          func(t *Token) { t.Addrs = []string{"web1"} },
		"port 0":           func(t *Token) { t.Addrs = []string{"web1:0"} },
		"no host":          func(t *Token) { t.Addrs = []string{":42425"} },
		"a control":        func(t *Token) { t.Addrs = []string{"a\x1b[2J:42425"} },
		"a long address":   func(t *Token) { t.Addrs = []string{strings.Repeat("a", 300) + ":1"} },
		"no CA":            func(t *Token) { t.CA = nil },
		"a short CA":       func(t *Token) { t.CA = []string{"ab"} },
		"too many CAs":     func(t *Token) { t.CA = slicesRepeat(strings.Repeat("ab", 32), maxCAs+1) },
		"a short secret":   func(t *Token) { t.secret = t.secret[1:] },
		"a missing secret": func(t *Token) { t.secret = nil },
	} {
		token := someToken()
		change(token)
		if got, err := parseToken(textOf(t, token)); err == nil || strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func slicesRepeat(s string, n int) (list []string) {
	for range n {
		list = append(list, s)
	}
	return list
}

func TestAnInvitationThatHasEndedIsSaidToHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := someToken()
		token.Expires = time.Now().Add(time.Hour)
		text := textOf(t, token)
		if _, err := ParseToken(text); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if _, err := ParseToken(text); err == nil || !strings.Contains(err.Error(), "ended on") || !strings.Contains(err.Error(), "peerstate cert token web3") {
			t.Errorf("error %v", err)
		}
	})
}

func TestAnInvitationPrintedByMistakeDoesNotShowItsSecret(t *testing.T) {
	token := someToken()
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(format, token); !strings.Contains(s, "web3") || strings.Contains(s, "7, 7") || strings.Contains(s, "7 7") || strings.Contains(s, "\x07\x07") {
			t.Errorf("%s shows %s", format, s)
		}
	}
}

// FuzzToken reads arbitrary text as an invitation, as it is and behind a right wrapping. What is accepted
// makes sense, and is the same when it is written and read again.
func FuzzToken(f *testing.F) {
	text := textOf(f, someToken())
	contents, err := unwrapToken(text)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text, contents)
	f.Add(text[:50], contents[:50])
	f.Add(" peerstate1-AAAA\n", []byte{0xa0})
	f.Fuzz(func(t *testing.T, s string, contents []byte) {
		for _, s := range []string{s, wrapToken(contents)} {
			token, err := parseToken(s)
			if err != nil {
				if len(err.Error()) > 600 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("error %q", err)
				}
				continue
			}
			if err := token.check(); err != nil || ValidName(token.Node) != nil || len(token.secret) != secretSize {
				t.Errorf("accepted: %v, %v", token, err)
			}
			again, err := parseToken(textOf(t, token))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(token, again, cmp.AllowUnexported(Token{}), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		}
	})
}

func wrapToken(contents []byte) string {
	data := append([]byte{byte(len(contents) >> 8), byte(len(contents))}, contents...)
	return tokenWord + tokenText.EncodeToString(append(data, tokenSum(data)...))
}
