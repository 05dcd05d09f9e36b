package iis

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestWebConfigPointsToThePeerstateBeside(t *testing.T) {
	data, err := os.ReadFile("Web.config")
	must(t, err)
	var config struct {
		XMLName xml.Name `xml:"configuration"`
		State   struct {
			Mode       string `xml:"mode,attr"`
			Connection string `xml:"stateConnectionString,attr"`
		} `xml:"system.web>sessionState"`
	}
	must(t, xml.Unmarshal(data, &config))
	if s := config.State; s.Mode != "StateServer" || s.Connection != "tcpip=127.0.0.1:42424" {
		t.Errorf("it says %+v", s)
	}
	for d := xml.NewDecoder(strings.NewReader(string(data))); ; { // all of it, comments too
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func scripts(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("*.ps1")
	must(t, err)
	if len(names) != 2 {
		t.Fatalf("the scripts are %v", names)
	}
	all := map[string]string{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		must(t, err)
		all[name] = string(data)
	}
	return all
}

// code gives a script without comments and without what stands in strings. Not ok: a bracket or a string is not closed.
func code(script string) (plain string, ok bool) {
	var b strings.Builder
	var open []byte
	for i := 0; i < len(script); i++ {
		switch c := script[i]; {
		case strings.HasPrefix(script[i:], "<#"):
			end := strings.Index(script[i:], "#>")
			if end < 0 {
				return "", false
			}
			i += end + 1
		case c == '#':
			end := strings.IndexByte(script[i:], '\n')
			if end < 0 {
				return b.String(), len(open) == 0
			}
			i += end - 1
		case c == '`':
			i++
		case c == '\'' || c == '"':
			end := closing(script[i:])
			if end < 0 {
				return "", false
			}
			b.WriteString("''")
			i += end
		case strings.IndexByte("({[", c) >= 0:
			open = append(open, c)
			b.WriteByte(c)
		case strings.IndexByte(")}]", c) >= 0:
			want := "({["[strings.IndexByte(")}]", c)]
			if len(open) == 0 || open[len(open)-1] != want {
				return "", false
			}
			open = open[:len(open)-1]
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), len(open) == 0
}

// closing finds the end of a string; strings within $(...) count.
func closing(s string) int {
	depth := 0
	for i := 1; i < len(s); i++ {
		switch {
		case s[0] == '"' && s[i] == '`':
			i++
		case s[0] == '"' && strings.HasPrefix(s[i:], "$("):
			depth++
			i++
		case depth > 0 && s[i] == '(':
			depth++
		case depth > 0 && s[i] == ')':
			depth--
		case depth == 0 && s[i] == s[0]:
			return i
		}
	}
	return -1
}

// changing are the commands that change something, which -WhatIf must keep from being run.
var changing = regexp.MustCompile(`\b((?:New|Remove|Set|Copy|Start|Stop|Add)-(?:Item|NetFirewallRule|Service|Content)|Invoke-Peerstate|AppendAllLines)\b`)

func TestTheScriptsAreWholeStopAtErrorsAndChangeNothingWithWhatIf(t *testing.T) {
	for name, script := range scripts(t) {
		plain, ok := code(script)
		if !ok {
			t.Errorf("%s: a bracket or a string is not closed", name)
			continue
		}
		for _, want := range []string{"#Requires -RunAsAdministrator", "$ErrorActionPreference = 'Stop'", "Set-StrictMode -Version", "SupportsShouldProcess", ".EXAMPLE",
			"if ($LASTEXITCODE -ne 0) { throw"} {
			if !strings.Contains(script, want) {
				t.Errorf("%s has no %q", name, want)
			}
		}
		depth, guarded := 0, []bool{}
		for n, line := range strings.Split(plain, "\n") {
			if strings.HasPrefix(line, "function") {
				guarded = append(guarded, true)
			} else if strings.Contains(line, "{") {
				guarded = append(guarded, strings.Contains(line, "$PSCmdlet.ShouldProcess(") || depth > 0 && guarded[depth-1])
			}
			if m := changing.FindString(line); m != "" && !strings.HasPrefix(line, "function") && (len(guarded) == 0 || !guarded[len(guarded)-1]) {
				t.Errorf("%s: -WhatIf does not keep %s from being run (line %d of the code)", name, m, n+1)
			}
			depth += strings.Count(line, "{") - strings.Count(line, "}")
			guarded = guarded[:min(len(guarded), max(depth, 0))]
		}
	}
}

func TestNoSecretStandsOnACommandLine(t *testing.T) {
	for name, script := range scripts(t) {
		_, params, _ := strings.Cut(script, "param(")
		params, _, _ = strings.Cut(params, "\n)")
		if regexp.MustCompile(`(?i)token|invitation|password|secret`).MatchString(regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(params, "")) {
			t.Errorf("%s takes a secret as a parameter", name)
		}
	}
	install := scripts(t)["Install-Peerstate.ps1"]
	if !strings.Contains(install, "Read-Host -AsSecureString") || !strings.Contains(install, ".Password | Invoke-Peerstate 'join' '-'") {
		t.Error("the invitation is not asked for and piped")
	}
}

func TestABrokenScriptIsNoticed(t *testing.T) {
	for _, script := range []string{"if ($a) {", "'open", `"a $(Join-Path 'b' "c") d`, "<# no end", "(]", "}"} {
		if plain, ok := code(script); ok {
			t.Errorf("%q passes, as %q", script, plain)
		}
	}
	if plain, ok := code("a # }\n<# { #> \"x $(f '}') `\" y\" 'it{' `{"); !ok || strings.Contains(plain, "x") {
		t.Errorf("it is %q, %v", plain, ok)
	}
}
