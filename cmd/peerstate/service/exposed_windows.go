package service

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc/mgr"

	"peerstate/certs/private"
)

// Exposed says what accounts that do not administer the machine could do to the installed service: put another program in
// the place of its own, or look into its directory. It needs no administrator. Nothing if it is not installed.
func Exposed() ([]Exposure, error) {
	program, err := installedProgram()
	if err != nil || program == "" {
		return nil, err
	}
	return exposures(program, Defaults().Data)
}

// exposures are those of a program and a directory.
func exposures(program, data string) (all []Exposure, err error) {
	changers, err := private.Changers(program)
	switch {
	case err != nil:
		return nil, err
	case len(changers) > 0:
		all = append(all, Exposure{fmt.Sprintf("%s may replace the service's program, %s, and so read all sessions", strings.Join(changers, ", "), program),
			fmt.Sprintf(`copy it to a directory that only administrators may write to, such as C:\Program Files\%s, then: peerstate service uninstall, and install from there`, Name)})
	}
	others, err := private.Others(data)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return all, nil // a directory that this account may not even ask about is enclosed as far as it can tell
	case err != nil:
		return nil, err
	case len(others) > 0:
		all = append(all, Exposure{fmt.Sprintf("%s may look into the service's directory, %s, or write there", strings.Join(others, ", "), data),
			fmt.Sprintf(`as administrator: icacls "%s" /inheritance:r /grant:r "*S-1-5-18:(OI)(CI)F" "*S-1-5-32-544:(OI)(CI)F" "*%s:(OI)(CI)F"`, data, private.ServiceSID)})
	}
	return all, nil
}

// installedProgram is the program of the installed service; "": it is not installed.
func installedProgram() (string, error) {
	scm, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return "", fmt.Errorf("connect to the service manager: %w", err)
	}
	m := &mgr.Mgr{Handle: scm}
	defer disconnect(m)
	h, err := windows.OpenService(scm, windows.StringToUTF16Ptr(Name), windows.SERVICE_QUERY_CONFIG)
	if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at the service: %w", err)
	}
	s := &mgr.Service{Name: Name, Handle: h}
	defer s.Close()
	buffer := make([]byte, 8<<10) // more Windows does not give
	config := (*windows.QUERY_SERVICE_CONFIG)(unsafe.Pointer(&buffer[0]))
	if err := windows.QueryServiceConfig(h, config, uint32(len(buffer)), new(uint32)); err != nil {
		return "", fmt.Errorf("ask for the service's program: %w", err)
	}
	line := windows.UTF16PtrToString(config.BinaryPathName)
	args, err := windows.DecomposeCommandLine(line)
	if err != nil || len(args) == 0 {
		return "", fmt.Errorf("the service's command is %q, which names no program", line)
	}
	return args[0], nil
}
