//go:build !windows

package settings

// envName gives the name under which a variable is known: as it is written.
func envName(name string) string { return name }
