package service

import (
	"fmt"
	"strings"
)

// unit is the text of the systemd unit.
//
// The service reports itself (Type=notify), so what comes after it finds it ready, and a stop may take as long as
// its sessions need. It writes nowhere but in its state directory.
func unit(p Place) string {
	return fmt.Sprintf(`[Unit]
Description=peerstate: %[1]s
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=%[2]s serve --env-file %[3]s
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=2
# Loading a large journal, and handing many sessions over, take their time.
TimeoutStartSec=%[5]d
TimeoutStopSec=%[5]d
WatchdogSec=60
LimitNOFILE=65536

User=%[4]s
UMask=0077
ConfigurationDirectory=%[6]s
StateDirectory=%[6]s
StateDirectoryMode=0700
RuntimeDirectory=%[6]s
RuntimeDirectoryMode=0700

AmbientCapabilities=
CapabilityBoundingSet=
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=strict
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
`, description, unitQuote(p.Program), unitQuote(p.Env), p.Account, StopTime, Name)
}

// unitQuote writes a path for a line of a unit, where % and white space mean something.
func unitQuote(path string) string {
	path = strings.ReplaceAll(path, "%", "%%")
	if strings.ContainsAny(path, " \t\"'\\$") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `$$`).Replace(path) + `"`
	}
	return path
}
