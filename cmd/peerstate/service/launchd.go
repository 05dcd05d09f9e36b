package service

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// plist is the text of the launchd daemon. launchd keeps no log and has no word for "ready", so the log goes to
// a file; it starts the program again unless that ended with exit code 0.
func plist(p Place) string {
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>%[1]s</string>
	<key>ProgramArguments</key>
	<array>
		<string>%[2]s</string>
		<string>serve</string>
		<string>--env-file</string>
		<string>%[3]s</string>
		<string>--log-file</string>
		<string>%[4]s</string>
	</array>
	<key>UserName</key>
	<string>%[5]s</string>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
	</dict>
	<key>ExitTimeOut</key>
	<integer>%[6]d</integer>
	<key>ProcessType</key>
	<string>Interactive</string>
	<key>SoftResourceLimits</key>
	<dict>
		<key>NumberOfFiles</key>
		<integer>65536</integer>
	</dict>
</dict>
</plist>
`, Name, xmlText(p.Program), xmlText(p.Env), xmlText(p.Log), xmlText(p.Account), StopTime)
}

func xmlText(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		return s // a strings.Builder takes everything
	}
	return b.String()
}
