package admin

import (
	"net/http"
	"strings"
)

// health says that the program runs, for those who would restart it if not: so also while it starts
// and drains.
func health(s Source) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		_, warnings := s.Ready()
		text(w, http.StatusOK, lines("ok", warnings))
	}
}

// ready says whether to send work here. Warnings do not count: a load balancer would take the last node
// out for an ageing certificate.
func ready(s Source) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		reason, warnings := s.Ready()
		if reason != "" {
			text(w, http.StatusServiceUnavailable, lines(reason, warnings))
			return
		}
		text(w, http.StatusOK, lines("ready", warnings))
	}
}

func lines(first string, warnings []string) string {
	var b strings.Builder
	b.WriteString(first + "\n")
	for _, w := range warnings {
		b.WriteString("warning: " + strings.ReplaceAll(w, "\n", " ") + "\n")
	}
	return b.String()
}
