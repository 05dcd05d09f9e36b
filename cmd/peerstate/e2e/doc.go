// Package e2e tests the program as its users have it: real processes, real sockets, kill -9.
package e2e
