package check

import "peerstate/cmd/peerstate/service"

// checkService looks who else could change the installed service, if there is one.
func checkService() []Finding {
	exposed, err := service.Exposed()
	if err != nil {
		return []Finding{warning("it cannot be found out who may change the installed service: "+err.Error(), "try again as administrator")}
	}
	return judgeExposed(exposed)
}

func judgeExposed(exposed []service.Exposure) (all []Finding) {
	for _, e := range exposed {
		all = append(all, warning(e.What, e.Mend))
	}
	return all
}
