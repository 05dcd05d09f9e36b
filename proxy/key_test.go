package proxy

import "testing"

func TestAllSpellingsOfATargetNameOneKey(t *testing.T) {
	for _, spelling := range []string{
		"%2fLM%2fW3SVC%2f1%2fROOT(a%2bb%3d)%2fid+x",
		"%2FLM%2FW3SVC%2F1%2FROOT(a%2Bb%3D)%2Fid%20x",
		"/LM/W3SVC/1/ROOT(a%2bb=)/id+x",
		"//LM/W3SVC/1/ROOT(a%2bb=)/id%20x",
		"LM/W3SVC/1/ROOT(a%2bb=)/id+x",
		"%2f/%2fLM/W3SVC/1/ROOT%28a%2bb=%29/id+x",
	} {
		got, why := decodeKey(nil, []byte(spelling))
		if want := "LM/W3SVC/1/ROOT(a+b=)/id x"; why != sound || string(got) != want {
			t.Errorf("%s: %q, refusal %d, want %q", spelling, got, why, want)
		}
	}
}

func TestSlashesWithinAKeyStay(t *testing.T) {
	got, why := decodeKey([]byte("what was there before"), []byte("a//b%2f%2fc/"))
	if why != sound || string(got) != "a//b//c/" {
		t.Errorf("%q, refusal %d", got, why)
	}
}

func TestAKeyMayHoldAnyByteButControlCharacters(t *testing.T) {
	for c := range 256 {
		target := []byte{'x', '%', "0123456789abcdef"[c>>4], "0123456789ABCDEF"[c&15], 'x'}
		got, why := decodeKey(nil, target)
		if c < 0x20 || c == 0x7f {
			if why != controlBytes {
				t.Errorf("%%%02x: refusal %d, want it refused", c, why)
			}
		} else if want := []byte{'x', byte(c), 'x'}; why != sound || string(got) != string(want) {
			t.Errorf("%%%02x: %q, refusal %d", c, got, why)
		}
	}
}

func TestATargetThatCannotBeDecodedIsRefused(t *testing.T) {
	for target, want := range map[string]refusal{
		"":       noTarget,
		"/":      noTarget,
		"//":     noTarget,
		"%2f%2F": noTarget,
		"a%":     badEscape,
		"a%2":    badEscape,
		"a%g0":   badEscape,
		"a%0g":   badEscape,
		"a%%41":  badEscape,
		"a%-1":   badEscape,
		"a\tb":   controlBytes,
		"a\x7fb": controlBytes,
	} {
		if _, why := decodeKey(nil, []byte(target)); why != want {
			t.Errorf("%q: refusal %d, want %d", target, why, want)
		}
	}
}
