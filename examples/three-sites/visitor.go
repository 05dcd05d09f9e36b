package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// visitor opens the page again and again, and remembers what it showed.
type visitor struct {
	name   string
	url    string
	client *http.Client
	cookie *http.Cookie // guarded by nothing: only visit uses it

	mu     sync.Mutex
	site   string    // that the last page came from
	count  int       // that it showed
	asked  time.Time // when the page that is under way was asked for; zero: none is
	pages  int       // that came
	broken int       // pages that did not come: whether they counted is not known
	unsure int       // of those, since the last one that came
	wrong  error     // the counter was not what it had to be
}

func newVisitor(name, url string) *visitor {
	return &visitor{name: name, url: url, client: &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// pace is how long a visitor looks at a page.
const pace = 250 * time.Millisecond

// browse opens pages until ctx ends, or one shows a counter that is wrong.
func (v *visitor) browse(ctx context.Context) {
	for ctx.Err() == nil && v.visit() {
		select {
		case <-ctx.Done():
		case <-time.After(pace):
		}
	}
}

// visit opens the page once. It is not broken off: what a page did that nobody saw could not be counted.
func (v *visitor) visit() bool {
	v.mu.Lock()
	v.asked = time.Now()
	v.mu.Unlock()
	site, count, err := v.open()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked = time.Time{}
	if err != nil {
		v.broken++
		v.unsure++
		return true
	}
	v.saw(site, count)
	return v.wrong == nil
}

// saw notes what a page showed. v.mu is held.
func (v *visitor) saw(site string, count int) {
	v.pages++
	// It counts one more than it showed last, and one for each page that may have counted without being seen.
	if count <= v.count || count > v.count+1+v.unsure {
		v.wrong = fmt.Errorf("%s saw %d from %s and then %d from %s", v.name, v.count, v.site, count, site)
	}
	v.site, v.count, v.unsure = site, count, 0
}

func (v *visitor) open() (site string, count int, err error) {
	r, err := http.NewRequest(http.MethodGet, v.url, nil)
	if err != nil {
		return "", 0, err
	}
	if v.cookie != nil {
		r.AddCookie(v.cookie)
	}
	answer, err := v.client.Do(r)
	if err != nil {
		return "", 0, err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	if cerr := answer.Body.Close(); err == nil {
		err = cerr
	}
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("the page is %s", answer.Status)
	}
	if err != nil {
		return "", 0, err
	}
	for _, c := range answer.Cookies() {
		if c.Name == cookieName {
			v.cookie = c
		}
	}
	count, err = strconv.Atoi(answer.Header.Get("X-Count"))
	return answer.Header.Get("X-Site"), count, err
}
