// Package process finds the process at the other end of a connection from this machine, as far as the system tells.
package process
