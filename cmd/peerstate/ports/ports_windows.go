package ports

import "golang.org/x/sys/windows"

// ErrInUse is what the system says of an address that another program has.
const ErrInUse = windows.WSAEADDRINUSE

// What it calls other ways in which listening fails.
const (
	errAddrNotAvailable = windows.WSAEADDRNOTAVAIL
	errAccess           = windows.WSAEACCES // also when a program holds the port exclusively
)

// ASPNETStateRuns tells whether Microsoft's state service runs here. It needs no administrator: only
// the right to look is asked for. What cannot be found out is no.
func ASPNETStateRuns() bool {
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return false
	}
	defer closeService(manager)
	name, err := windows.UTF16PtrFromString("aspnet_state")
	if err != nil {
		return false
	}
	service, err := windows.OpenService(manager, name, windows.SERVICE_QUERY_STATUS)
	if err != nil {
		return false // it is not installed
	}
	defer closeService(service)
	var status windows.SERVICE_STATUS
	if err := windows.QueryServiceStatus(service, &status); err != nil {
		return false
	}
	return status.CurrentState != windows.SERVICE_STOPPED
}

func closeService(h windows.Handle) {
	_ = windows.CloseServiceHandle(h) // it was only looked at
}
