package demo

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

// NewSessionID makes one as ASP.NET does.
func NewSessionID() string {
	id := make([]byte, 24)
	for i := range id {
		id[i] = "abcdefghijklmnopqrstuvwxyz012345"[rand.N(32)]
	}
	return string(id)
}

// Conversation is a web server's connection to a state server, spoken as ASP.NET does: the whole
// path percent-encoded, without a leading slash.
type Conversation struct {
	net.Conn
	answers *bufio.Reader
}

// Answer is a state server's.
type Answer struct {
	Status string // 200, 404 or 423
	Cookie string // of the lock; empty: none was told
	Body   string
}

// Connect connects with the state server at an address.
func Connect(addr string) (*Conversation, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &Conversation{c, bufio.NewReader(c)}, nil
}

// Do sends one request about a session and reads the answer. Each line of header ends with "\r\n".
func (c *Conversation) Do(method, session, header, body string) (a Answer, err error) {
	if method == "PUT" {
		header += "Content-Length:" + strconv.Itoa(len(body)) + "\r\n"
	}
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil { // stateNetworkTimeout
		return a, err
	}
	const application = "%2fLM%2fW3SVC%2f1%2fROOT(kZ9dJ0o8cV1pXbq3M7w5uTn2yRfHsAeL4iGjKxWvQzE%3d)%2f"
	if _, err := fmt.Fprintf(c, "%s %s%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n%s", method, application, session, header, body); err != nil {
		return a, err
	}
	line, err := c.answers.ReadString('\n')
	if err != nil {
		return a, err
	}
	a.Status, _, _ = strings.Cut(strings.TrimPrefix(line, "HTTP/1.1 "), " ") // Microsoft's own begins with the number
	length := 0
	for {
		if line, err = c.answers.ReadString('\n'); err != nil {
			return a, err
		}
		if line = strings.TrimSpace(line); line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); name {
		case "LockCookie":
			a.Cookie = value
		case "Content-Length":
			if length, err = strconv.Atoi(value); err != nil {
				return a, err
			}
		}
	}
	contents := make([]byte, length)
	_, err = io.ReadFull(c.answers, contents)
	a.Body = string(contents)
	return a, err
}
