package service

import (
	"encoding/xml"
	"strings"
	"testing"
)

// plistValue is any value of a property list.
type plistValue struct {
	XMLName xml.Name
	Text    string       `xml:",chardata"`
	Values  []plistValue `xml:",any"`
}

func TestThePropertyListHasAllThatLaunchdNeeds(t *testing.T) {
	var list struct {
		XMLName xml.Name     `xml:"plist"`
		Dicts   []plistValue `xml:"dict"`
	}
	d := xml.NewDecoder(strings.NewReader(plist(place)))
	d.Strict = true
	if err := d.Decode(&list); err != nil || len(list.Dicts) != 1 {
		t.Fatalf("%d dictionaries, %v", len(list.Dicts), err)
	}
	// A dictionary is keys and values in turn.
	entries, found := list.Dicts[0].Values, map[string]plistValue{}
	for i := 0; i+1 < len(entries); i += 2 {
		if entries[i].XMLName.Local != "key" {
			t.Fatalf("%v stands where a key should be", entries[i])
		}
		found[entries[i].Text] = entries[i+1]
	}
	if len(entries) != 2*len(found) {
		t.Errorf("%d entries for %d keys", len(entries), len(found))
	}
	var args []string
	for _, a := range found["ProgramArguments"].Values {
		args = append(args, a.Text)
	}
	if got, want := strings.Join(args, "|"), place.Program+"|serve|--env-file|"+place.Env+"|--log-file|"+place.Log; got != want {
		t.Errorf("it runs %s, want %s", got, want)
	}
	for key, want := range map[string]string{"Label": Name, "UserName": place.Account, "ExitTimeOut": "300"} {
		if got := found[key].Text; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if found["RunAtLoad"].XMLName.Local != "true" {
		t.Error("it is not run at the start of the machine")
	}
}
