package certs

import "peerstate/certs/private"

// WriteFile writes a file beside the certificates as they are written: whole, forced to disk, and
// readable by its owner only.
func WriteFile(path string, data []byte) error { return writeWhole(path, data) }

// MakeDir makes a directory that only its owner can look into, if it does not exist.
func MakeDir(dir string) error { return makePrivateDir(dir) }

func makePrivateDir(dir string) error { return private.MakeDir(dir) }

func syncDir(dir string) error { return private.SyncDir(dir) }
