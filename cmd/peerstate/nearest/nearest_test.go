package nearest

import "testing"

func TestTheNearestNameIsFoundAndNothingFar(t *testing.T) {
	known := []string{"serve", "check", "config", "cert", "bench", "version"}
	for name, want := range map[string]string{
		"srve": "serve", "chekc": "check", "confg": "config", "crt": "cert", "versoin": "version",
		"foo": "", "x": "", "": "", "completelydifferent": "",
	} {
		if got := To(name, known); got != want {
			t.Errorf("nearest to %q is %q, want %q", name, got, want)
		}
	}
}
