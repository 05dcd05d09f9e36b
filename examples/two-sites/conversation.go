package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"
)

// conversation is a web server's connection to a state server, spoken as ASP.NET does: the whole
// path percent-encoded, without a leading slash.
type conversation struct {
	net.Conn
	answers *bufio.Reader
}

// target is the session's: application, hash of its id, session id.
var (
	target  = "%2fLM%2fW3SVC%2f1%2fROOT(kZ9dJ0o8cV1pXbq3M7w5uTn2yRfHsAeL4iGjKxWvQzE%3d)%2f" + sessionID()
	nowhere = "%2fLM%2fW3SVC%2f1%2fROOT(kZ9dJ0o8cV1pXbq3M7w5uTn2yRfHsAeL4iGjKxWvQzE%3d)%2f" + sessionID()
)

func sessionID() string {
	id := make([]byte, 24)
	for i := range id {
		id[i] = "abcdefghijklmnopqrstuvwxyz012345"[rand.N(32)]
	}
	return string(id)
}

func connect(addr string) (*conversation, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &conversation{c, bufio.NewReader(c)}, nil
}

// request sends one request about the visitor's session and reads the answer. The method MISS is a
// GET for a session that nobody has.
func (c *conversation) request(method, header, body string) (status, answer string, err error) {
	about := target
	if method == "MISS" {
		method, about = "GET", nowhere
	}
	if method == "PUT" {
		header += "Content-Length:" + strconv.Itoa(len(body)) + "\r\n"
	}
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil { // stateNetworkTimeout
		return "", "", err
	}
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n%s", method, about, header, body); err != nil {
		return "", "", err
	}
	line, err := c.answers.ReadString('\n')
	if err != nil {
		return "", "", err
	}
	status = strings.Fields(line + " ? ?")[1]
	length := 0
	for {
		if line, err = c.answers.ReadString('\n'); err != nil {
			return "", "", err
		}
		if line = strings.TrimSpace(line); line == "" {
			break
		}
		if n, ok := strings.CutPrefix(line, "Content-Length:"); ok {
			if length, err = strconv.Atoi(strings.TrimSpace(n)); err != nil {
				return "", "", err
			}
		}
	}
	contents := make([]byte, length)
	_, err = io.ReadFull(c.answers, contents)
	return status, string(contents), err
}
