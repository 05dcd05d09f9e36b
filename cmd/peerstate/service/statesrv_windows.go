package service

import (
	"errors"
	"fmt"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// aspnetParameters is where Microsoft's state service has its settings.
const aspnetParameters = `SYSTEM\CurrentControlSet\Services\aspnet_state\Parameters`

// ASPNETStatePort is the port that Microsoft's state service was set to listen on here; 0 if it is not installed.
func ASPNETStatePort() (int, error) {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, aspnetParameters, registry.QUERY_VALUE)
	if errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the settings of Microsoft's state service: %w", err)
	}
	defer k.Close()
	port, _, err := k.GetIntegerValue("Port")
	if errors.Is(err, registry.ErrNotExist) {
		return 42424, nil // what it takes without a setting
	}
	if err != nil {
		return 0, fmt.Errorf("read the port of Microsoft's state service: %w", err)
	}
	if port == 0 || port > 65535 {
		return 0, fmt.Errorf(`the port of Microsoft's state service, in HKLM\%s, is %d`, aspnetParameters, port)
	}
	return int(port), nil
}
