<#
.SYNOPSIS
Goes back to Microsoft's state service on this web server.

.DESCRIPTION
Stops peerstate, which hands its sessions over to the other nodes, and has Microsoft's service start again. Web.config needs no change,
since both are at the same address. Sessions do not follow: visitors of this web server begin with new ones, and a farm of
several web servers is no farm any more. Settings, certificates and the journal stay. -WhatIf shows what it would do.

.EXAMPLE
.\Restore-AspNetState.ps1 -WhatIf
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param()

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'

$exe = Join-Path $env:ProgramFiles 'peerstate\peerstate.exe'
$data = Join-Path $env:ProgramData 'peerstate'

function Invoke-Peerstate {
    & $exe @args
    if ($LASTEXITCODE -ne 0) { throw "peerstate $($args -join ' ') failed, see above" }
}

if (-not (Get-Service -Name aspnet_state -ErrorAction SilentlyContinue)) {
    throw "Microsoft's state service is not installed: add the Windows feature ASP.NET 4 first"
}

# 1. peerstate gives the port back.
$service = Get-Service -Name peerstate -ErrorAction SilentlyContinue
if ($service -and $PSCmdlet.ShouldProcess('peerstate', 'Hand the sessions over, stop and uninstall the service')) {
    if ($service.Status -ne 'Stopped') { Invoke-Peerstate service stop }
    Invoke-Peerstate service uninstall
}

# 2. The firewall.
if ((Get-NetFirewallRule -Name 'peerstate-peers' -ErrorAction SilentlyContinue) -and $PSCmdlet.ShouldProcess('peerstate-peers', 'Remove the firewall rule')) {
    Remove-NetFirewallRule -Name 'peerstate-peers'
}

# 3. Microsoft's service, started as it was before.
$before = Join-Path $data 'aspnet_state.txt'
$start = 'Automatic'
if (Test-Path -LiteralPath $before) { $start = (Get-Content -LiteralPath $before -TotalCount 1).Trim() }
if ($PSCmdlet.ShouldProcess('aspnet_state', "Start, and from now on $start")) {
    Set-Service -Name aspnet_state -StartupType $start
    Start-Service -Name aspnet_state
}
Write-Output "Settings, certificates and journal are still in $data."
