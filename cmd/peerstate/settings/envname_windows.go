package settings

import "strings"

// envName gives the name under which a variable is known: Windows does not tell cases apart.
func envName(name string) string { return strings.ToUpper(name) }
