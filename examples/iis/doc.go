// Package iis has no Go code: a page, Web.config and scripts to take to a web server.
package iis
