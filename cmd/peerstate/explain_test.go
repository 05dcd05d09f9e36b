package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peerstate/proxy"
	"peerstate/store"
)

func TestASessionCanBeNamedInManyWays(t *testing.T) {
	aliases, err := proxy.ParseAliases("/LM/W3SVC/7/ROOT(b+=)=/LM/W3SVC/1/ROOT(a=)")
	if err != nil {
		t.Fatal(err)
	}
	const id, app = "mbkzjsnmvgpbxytfdrlwhq5e", "LM/W3SVC/1/ROOT(a=)"
	for what, want := range map[string]store.Lookup{
		id:                                       {ID: id},
		" \"" + id + "\"\r\n":                    {ID: id},
		"/" + app + "/" + id:                     {Key: app + "/" + id, ID: id},
		"%2fLM%2fW3SVC%2f1%2fROOT(a%3d)%2fid":    {Key: app + "/id", ID: "id"},
		"/LM/W3SVC/7/ROOT(b+=)/id":               {Key: app + "/id", ID: "id"},
		"%2FLM%2FW3SVC%2F7%2FROOT(b%2B%3D)%2Fid": {Key: app + "/id", ID: "id"},
		"5f1d03aa":                               {ID: "5f1d03aa", Hash: "5f1d03aa"},
		"5F1D03AA":                               {ID: "5F1D03AA", Hash: "5f1d03aa"},
		"5f1d03ag":                               {ID: "5f1d03ag"},
		"5f1d03aa5":                              {ID: "5f1d03aa5"},
		"app/5f1d03aa":                           {Key: "app/5f1d03aa", ID: "5f1d03aa"},
	} {
		got, err := lookupOf(what, aliases)
		if d := cmp.Diff(want, got, cmp.AllowUnexported(store.Lookup{})); err != nil || d != "" {
			t.Errorf("%q: %v %s", what, err, d)
		}
	}
	for _, none := range []string{"", " ", "//", "a/", "%zz", "a\x01b", strings.Repeat("a", mostAsked+1)} {
		if got, err := lookupOf(none, aliases); err == nil {
			t.Errorf("%.20q is taken for %+v", none, got)
		}
	}
}
