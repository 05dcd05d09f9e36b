package check

import (
	"errors"
	"io/fs"
	"time"

	"peerstate/certs"
	"peerstate/cmd/peerstate/settings"
	"peerstate/store/journal"
)

// checkDataDir looks whether serve could use the data directory.
func checkDataDir(s *settings.Settings, runs bool) Finding {
	farm, node := "", settings.StandAlone
	if s.CertDir != "" {
		node = ""
		if snap, err := certs.Load(s.CertDir, time.Now()); err == nil { // the certificates are looked at by themselves
			farm, node = snap.Self().Farm, snap.Self().Node
		}
	}
	err := journal.Check(s.DataDir, farm, node)
	another := "set PEERSTATE_DATA_DIR to a directory of this node's own"
	switch {
	case err == nil:
		return good("%s can be used for the journal", s.DataDir)
	case errors.Is(err, fs.ErrNotExist):
		return warning("PEERSTATE_DATA_DIR: "+s.DataDir+" does not exist; it is made at the first start",
			"nothing, if this is the first start; else set it to where the journal is, or sessions are not found again")
	case errors.Is(err, journal.ErrInUse) && runs:
		return good("%s is used by the peerstate that runs here", s.DataDir)
	case errors.Is(err, journal.ErrInUse):
		return fault("PEERSTATE_DATA_DIR: "+s.DataDir+": another process uses it", "stop that one, or "+another)
	case errors.Is(err, journal.ErrForeign), errors.Is(err, journal.ErrNewer):
		return fault("PEERSTATE_DATA_DIR: "+s.DataDir+": "+err.Error(), another)
	}
	return fault("PEERSTATE_DATA_DIR: "+s.DataDir+": "+err.Error(), "let the account that runs peerstate write there, or "+another)
}
