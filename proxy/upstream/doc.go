// Package upstream is a client of an old state server, from which sessions are taken over while the web servers
// already use this one. It implements store.Upstream.
//
// A request gets a connection of the pool (pool.go), is written as ASP.NET would write it, and its answer is read and understood
// (exchange.go). What goes wrong is an error, never an answer: the store must be able to tell "not known" from "missing". A server that
// cannot be connected to is not asked for half a second, so that requests for sessions which may be there do not pile up
// (health.go); it is asked now and then also when nobody wants anything, so that warnings are there before visitors feel it.
package upstream
