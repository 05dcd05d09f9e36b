package check

import (
	"context"
	"fmt"

	"peerstate/cmd/peerstate/settings"
	"peerstate/proxy/upstream"
)

// checkUpstream looks whether the old state server answers.
func checkUpstream(ctx context.Context, s *settings.Settings) Finding {
	old := upstream.New(string(s.Upstream), int64(s.MaxBody), nil)
	err := old.Probe(ctx)
	if cerr := old.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fault(fmt.Sprintf("PEERSTATE_UPSTREAM: %v", err),
			"start it, or let it be reached (Microsoft's service answers other machines only with AllowRemoteConnection=1 in its registry key); "+
				"if the migration is over, take the setting out")
	}
	return good("the old state server %s answers", s.Upstream)
}
