<#
.SYNOPSIS
Installs peerstate on this web server, as a service in place of Microsoft's state service.

.DESCRIPTION
Each step looks first whether it was done already, so the script may be run again. -WhatIf shows what it would do.
An invitation is asked for and not given on the command line, where others could read it.

.EXAMPLE
.\Install-Peerstate.ps1 -Site london
Asks for the invitation that "peerstate cert token web1" has printed on the farm's issuer.

.EXAMPLE
.\Install-Peerstate.ps1 -CertificateDirectory D:\web1 -Peers web2.example.com:42425
Takes the certificate that "peerstate cert issue web1" has made, and names another node.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    # The program.
    [ValidateScript({ Test-Path -LiteralPath $_ -PathType Leaf })]
    [string] $Program = (Join-Path $PSScriptRoot 'peerstate.exe'),

    # A directory with ca.crt, node.crt and node.key. Without it this machine joins by an invitation.
    [string] $CertificateDirectory,

    # Other nodes, host:port. Not needed with an invitation.
    [string[]] $Peers = @(),

    # Where this machine stands.
    [string] $Site = '',

    # The UDP port for the other nodes.
    [ValidateRange(1, 65535)]
    [int] $PeerPort = 42425,

    # Who may reach that port; the default is everybody, and who has no certificate of the farm gets nowhere.
    [string[]] $RemoteAddress = @('Any')
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'

$folder = Join-Path $env:ProgramFiles 'peerstate'
$exe = Join-Path $folder 'peerstate.exe'
$data = Join-Path $env:ProgramData 'peerstate'
$node = Join-Path $data 'node'   # where the certificate is
$settings = Join-Path $data 'peerstate.env'
$microsoft = Get-Service -Name aspnet_state -ErrorAction SilentlyContinue

# Runs peerstate, and stops this script if it fails. What is piped in goes to its standard input.
function Invoke-Peerstate {
    $input | & $exe @args
    if ($LASTEXITCODE -ne 0) { throw "peerstate $($args[0]) failed, see above" }
}

# 1. The program.
$installed = (Test-Path -LiteralPath $exe) -and (Get-FileHash -LiteralPath $exe).Hash -eq (Get-FileHash -LiteralPath $Program).Hash
if (-not $installed -and $PSCmdlet.ShouldProcess($exe, 'Copy the program')) {
    if (Get-Service -Name peerstate -ErrorAction SilentlyContinue | Where-Object Status -ne 'Stopped') {
        Invoke-Peerstate service stop   # it hands its sessions over to the other nodes
    }
    New-Item -ItemType Directory -Path $folder -Force | Out-Null
    Copy-Item -LiteralPath $Program -Destination $exe -Force
}

# 2. The service, which is not started yet. It gets an account of its own, which may write in its data directory, and the port
# that Microsoft's state service was set to.
if (-not (Get-Service -Name peerstate -ErrorAction SilentlyContinue) -and $PSCmdlet.ShouldProcess('peerstate', 'Install the service')) {
    if ($microsoft) { Invoke-Peerstate 'service' 'install' '--take-port' } else { Invoke-Peerstate 'service' 'install' }
}

# 3. The settings. Those that are there stay.
$known = (Test-Path -LiteralPath $settings) -and (Select-String -LiteralPath $settings -Pattern '^PEERSTATE_CERT_DIR=' -Quiet)
if (-not $known -and $PSCmdlet.ShouldProcess($settings, 'Write the settings')) {
    $lines = @("PEERSTATE_CERT_DIR=$($node -replace '\\', '/')", "PEERSTATE_DATA_DIR=$((Join-Path $data 'data') -replace '\\', '/')")
    if ($PeerPort -ne 42425) { $lines += "PEERSTATE_PEER_LISTEN=:$PeerPort" }
    if ($Peers) { $lines += "PEERSTATE_PEERS=$($Peers -join ',')" }
    if ($Site) { $lines += "PEERSTATE_SITE=$Site" }
    [IO.File]::AppendAllLines($settings, [string[]] $lines)   # UTF-8 without a byte order mark
}

# 4. The certificate.
if (-not (Test-Path -LiteralPath (Join-Path $node 'node.crt'))) {
    if ($CertificateDirectory) {
        if ($PSCmdlet.ShouldProcess($node, "Copy the certificate from $CertificateDirectory")) {
            New-Item -ItemType Directory -Path $node -Force | Out-Null
            foreach ($file in 'ca.crt', 'node.crt', 'node.key') {
                Copy-Item -LiteralPath (Join-Path $CertificateDirectory $file) -Destination $node
            }
            Write-Warning "$CertificateDirectory still has the key: delete it there"
        }
    }
    elseif ($PSCmdlet.ShouldProcess($node, 'Join the farm')) {
        $secret = Read-Host -AsSecureString -Prompt 'Invitation (peerstate1-...)'
        [Net.NetworkCredential]::new('', $secret).Password | Invoke-Peerstate 'join' '-' '--out' $node
    }
}

# 5. The firewall: one UDP port, for this program only.
if (-not (Get-NetFirewallRule -Name 'peerstate-peers' -ErrorAction SilentlyContinue) -and $PSCmdlet.ShouldProcess("UDP $PeerPort", 'Open the firewall')) {
    New-NetFirewallRule -Name 'peerstate-peers' -DisplayName 'peerstate (other nodes)' -Direction Inbound -Action Allow `
        -Protocol UDP -LocalPort $PeerPort -Program $exe -RemoteAddress $RemoteAddress | Out-Null
}

# 6. Microsoft's state service gives up its port. How it was started is kept for Restore-AspNetState.ps1.
if ($microsoft -and $microsoft.StartType -ne 'Disabled' -and $PSCmdlet.ShouldProcess('aspnet_state', 'Stop and disable, which ends the sessions in it')) {
    Set-Content -LiteralPath (Join-Path $data 'aspnet_state.txt') -Value $microsoft.StartType
    Stop-Service -Name aspnet_state
    Set-Service -Name aspnet_state -StartupType Disabled
}

# 7. Check, and start.
if ($PSCmdlet.ShouldProcess('peerstate', 'Check the settings and start the service')) {
    Invoke-Peerstate 'check' '--env-file' $settings
    if ((Get-Service -Name peerstate).Status -ne 'Running') { Invoke-Peerstate service start }
    $listen = '127.0.0.1:42424'   # unless the settings have another one, which may be the port of Microsoft's service
    $line = Select-String -LiteralPath $settings -Pattern '^PEERSTATE_LISTEN=(.+)$' | Select-Object -First 1
    if ($line) { $listen = $line.Matches[0].Groups[1].Value.Trim() }
    Write-Output "peerstate runs. Web.config: <sessionState mode=""StateServer"" stateConnectionString=""tcpip=$listen"" />"
}
