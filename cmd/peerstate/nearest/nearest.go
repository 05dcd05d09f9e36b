// Package nearest finds what was probably meant by a name that is not known.
package nearest

import "github.com/agnivade/levenshtein"

// To gives the one of known that was probably meant by name, or "" if none is near: a few letters
// may be wrong, fewer in a short name.
func To(name string, known []string) string {
	best, limit := "", min(3, 1+len(name)/4)
	for _, k := range known {
		if d := levenshtein.ComputeDistance(name, k); d <= limit {
			best, limit = k, d-1
		}
	}
	return best
}
