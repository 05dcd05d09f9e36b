package check

import (
	"fmt"

	"peerstate/transport"
)

// judgeAliases says whether a node that was looked at has the same aliases of application ids as the settings.
func judgeAliases(mine, self string, p transport.Probed) []Finding {
	const advice = "set PEERSTATE_APP_ALIASES to the same on all nodes, and restart them"
	switch {
	case p.Node == "" || p.Node == self || p.Aliases == mine && (p.Tells || mine == ""):
		return nil
	case !p.Tells:
		return []Finding{warning(fmt.Sprintf("node %s runs an older release, which knows no PEERSTATE_APP_ALIASES: it keeps some sessions under other keys than this node would", p.Node),
			"install the same release on both")}
	}
	return []Finding{fault(fmt.Sprintf("node %s has other PEERSTATE_APP_ALIASES: each of the two would not find sessions of the other", p.Node), advice)}
}
