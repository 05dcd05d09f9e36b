package certs

import (
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNamesAreLowerCaseLettersDigitsHyphensAndDots(t *testing.T) {
	for _, name := range []string{"a", "7", "web1", "web-1", "web1.example.com", "10.0.0.1", "a--b", strings.Repeat("x", 63)} {
		if err := ValidName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, says := range map[string]string{
		"":                      "empty",
		strings.Repeat("x", 64): "too long: 64",
		"Web1":                  "capital letters",
		"web_1":                 `'_'`,
		"web 1":                 `' '`,
		"wéb":                   `'é'`,
		"web1\n":                `'\n'`,
		"web/1":                 `'/'`,
		"-web":                  "begin and end",
		"web-":                  "begin and end",
		".web":                  "begin and end",
		"web.":                  "begin and end",
		"a..b":                  "each part",
		"a.-b":                  "each part",
		"..":                    "each part",
	} {
		err := ValidName(name)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: error %v, want one with %q", name, err, says)
		}
	}
}

func TestAFarmIsNotNamedLikeAnAddress(t *testing.T) {
	for _, name := range []string{"farm", "shop.example", "1234"} {
		if err := ValidFarm(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"10.0.0.1", "Farm", ""} {
		if ValidFarm(name) == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}

func TestEveryValidIdentityCanBeReadBack(t *testing.T) {
	name := rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?){0,3}`)
	rapid.Check(t, func(t *rapid.T) {
		id := Identity{name.Filter(func(s string) bool { return ValidFarm(s) == nil }).Draw(t, "farm"), name.Draw(t, "node")}
		u, err := url.Parse(id.URI().String())
		if err != nil {
			t.Fatal(err)
		}
		got, err := identityOf(&x509.Certificate{URIs: []*url.URL{u}})
		if err != nil || got != id {
			t.Fatalf("%v came back as %v, %v", id, got, err)
		}
	})
}

func TestOnlyOneWayOfWritingAnIdentityCounts(t *testing.T) {
	for _, s := range []string{
		"https://farm/node/web1", "spiffe://farm/node/", "spiffe://farm/node", "spiffe://farm", "spiffe://farm/web1",
		"spiffe://farm/node/web1/", "spiffe://farm//node/web1", "spiffe://farm/node/web1?x", "spiffe://farm/node/web1#x",
		"spiffe://farm/node/web%31", "spiffe://FARM/node/web1", "spiffe://farm/node/WEB1", "spiffe://farm:1/node/web1",
		"spiffe://u@farm/node/web1", "spiffe:///node/web1", "spiffe:farm", "spiffe://farm/node/web1/x", "spiffe://farm/Node/web1",
		"spiffe://10.0.0.1/node/web1", "",
	} {
		if id, err := identityOf(&x509.Certificate{URIs: []*url.URL{parseURL(t, s)}}); err == nil {
			t.Errorf("%q passes for %v", s, id)
		}
	}
	good := Identity{"farm", "web1"}.URI()
	if _, err := identityOf(&x509.Certificate{}); err == nil {
		t.Error("a certificate without a URI has an identity")
	}
	if _, err := identityOf(&x509.Certificate{URIs: []*url.URL{good, good}}); err == nil {
		t.Error("a certificate with two URIs has an identity")
	}
}

func TestAStrangersTextStaysOnOneShortLine(t *testing.T) {
	for in, want := range map[string]string{
		"peerstate CA farm":      "peerstate CA farm",
		"a\nb\x1b[31m\x00é\xff":  "a?b?[31m???",
		strings.Repeat("y", 500): strings.Repeat("y", 120) + "...",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}
