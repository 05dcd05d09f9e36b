package proxy

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

type conformance struct {
	Cases []struct {
		Name  string
		Steps []struct {
			Send struct {
				Method, Target string
				Headers        [][2]string
				Body           *string
			}
			Expect struct {
				Status  int
				Headers map[string]string
				Absent  []string
				Body    string
			}
		}
	}
}

func readConformance(t *testing.T) conformance {
	t.Helper()
	b, err := os.ReadFile("testdata/conformance.json")
	if err != nil {
		t.Fatal(err)
	}
	var c conformance
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Cases) == 0 {
		t.Fatal("no cases")
	}
	return c
}

// TestTheConversationsOfTheProtocol holds every recorded conversation with a server, each on one
// connection, which the server must keep open to its end.
func TestTheConversationsOfTheProtocol(t *testing.T) {
	all := readConformance(t)
	for _, bare := range []bool{false, true} {
		_, addr := serve(t, Config{BareStatusLine: bare}, nil)
		for _, test := range all.Cases {
			t.Run(fmt.Sprintf("bare=%v/%s", bare, test.Name), func(t *testing.T) {
				c := dial(t, addr)
				for i, step := range test.Steps {
					c.send(render(step.Send.Method, step.Send.Target, step.Send.Headers, step.Send.Body))
					got, err := c.receive()
					if err != nil {
						t.Fatalf("step %d: %v", i, err)
					}
					if strings.HasPrefix(got.line, "HTTP/1.1 ") == bare {
						t.Errorf("step %d: status line %q", i, got.line)
					}
					want := step.Expect
					if got.status() != want.Status || got.body != want.Body {
						t.Errorf("step %d: got %q and %q, want %d and %q", i, got.line, got.body, want.Status, want.Body)
					}
					for name, value := range want.Headers {
						if got.header[name] != value {
							t.Errorf("step %d: %s is %q, want %q", i, name, got.header[name], value)
						}
					}
					for _, name := range want.Absent {
						if v, ok := got.header[name]; ok {
							t.Errorf("step %d: there is %s: %s", i, name, v)
						}
					}
				}
			})
		}
	}
}

func render(method, target string, headers [][2]string, body *string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", method, target)
	for _, h := range headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	content := ""
	if body != nil {
		content = *body
	}
	if method == "PUT" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(content))
	}
	return b.String() + "\r\n" + content
}
