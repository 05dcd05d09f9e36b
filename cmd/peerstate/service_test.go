package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"peerstate/cmd/peerstate/service"
	"peerstate/cmd/peerstate/settings"
)

func TestInstallSaysWhatOthersCouldDoAndWhatItTookFromThem(t *testing.T) {
	p := service.Place{Program: "/opt/peerstate", Env: "/etc/peerstate.env", Data: "/var/lib/peerstate", Account: "peerstate"}
	for name, c := range map[string]struct {
		i       installed
		says    []string
		without string
	}{
		"all well":       {installed{made: true}, []string{"peerstate.env (new)", "/var/lib/peerstate\n"}, "Warning"},
		"open before":    {installed{enclosed: true}, []string{"(was there, and stays as it is)", "others could use it: now only"}, "Warning"},
		"exposed":        {installed{exposed: []service.Exposure{{What: "everybody may do it", Mend: "see to it"}}}, []string{"Warning: everybody may do it.\n  -> see to it\n"}, "others could"},
		"a port to take": {installed{listen: "127.0.0.1:42500"}, []string{"write this into the settings: PEERSTATE_LISTEN=127.0.0.1:42500"}, "Warning"},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := printInstalled(&b, p, c.i); err != nil {
				t.Fatal(err)
			}
			for _, says := range c.says {
				if !strings.Contains(b.String(), says) {
					t.Errorf("no %q in\n%s", says, &b)
				}
			}
			if strings.Contains(b.String(), c.without) {
				t.Errorf("%q in\n%s", c.without, &b)
			}
		})
	}
}

// Who follows a text ends with the same directories as who follows what install prints.
func TestTheScriptAndTheTextsNameWhatAServiceBeginsWith(t *testing.T) {
	p := service.Place{Data: "DATA", Env: filepath.Join("DATA", settings.BesideName)}
	begun := serviceSettings(p, "127.0.0.1:42500")
	for _, line := range []string{"PEERSTATE_LISTEN=127.0.0.1:42500", "#PEERSTATE_CERT_DIR=" + filepath.Join("DATA", "node"), "#PEERSTATE_DATA_DIR=" + filepath.Join("DATA", "data")} {
		if !strings.Contains(begun, "\n"+line+"\n") {
			t.Errorf("no %q in\n%s", line, begun)
		}
	}
	for file, all := range map[string][]string{
		"examples/iis/Install-Peerstate.ps1": {"$data = Join-Path $env:ProgramData '" + service.Name + "'", "$node = Join-Path $data 'node'", "(Join-Path $data 'data')",
			"Join-Path $data '" + settings.BesideName + "'", "Get-Service -Name " + service.Name + " ", "'service' 'install' '--take-port'", "^PEERSTATE_LISTEN="},
		"examples/iis/Restore-AspNetState.ps1": {"Join-Path $env:ProgramData '" + service.Name + "'", "Get-Service -Name " + service.Name + " "},
		"examples/systemd/README.md":           {"--out /var/lib/peerstate/node", "PEERSTATE_CERT_DIR=/var/lib/peerstate/node", "/etc/peerstate/" + settings.BesideName},
		"README.md":                            {`%ProgramData%\` + service.Name + `\` + settings.BesideName, `Services\aspnet_state\Parameters`},
	} {
		text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		for _, says := range all {
			if !strings.Contains(string(text), says) {
				t.Errorf("%s does not say %q", file, says)
			}
		}
	}
}
