// Package prometheus has no code: alert rules and a dashboard to paste. Its tests prove that what they name exists.
package prometheus

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"peerstate/examples/demo"
	"peerstate/examples/demo/demotest"
	"peerstate/proxy/upstream/aspnetstate"
)

// shown are the metrics of a farm that has been used: by their name, with the values of each label.
type shown map[string]map[string]map[string]bool

// twoSites runs a farm with a journal and an old state server, since some metrics are only shown with them, moves a session,
// and reads what both sites show.
func twoSites(t *testing.T) shown {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	program, sites := demotest.Build(t, t.TempDir(), "peerstate/cmd/peerstate"), demotest.Sites(t, dir, "london", "tokyo")
	old, err := aspnetstate.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := old.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := demo.MakeFarm(t.Context(), program, dir, sites, "PEERSTATE_UPSTREAM="+old.Addr()); err != nil {
		t.Fatal(err)
	}
	for _, s := range sites {
		settings, err := os.ReadFile(s.Env)
		if err == nil {
			err = os.WriteFile(s.Env, append(settings, "PEERSTATE_DATA_DIR="+filepath.ToSlash(filepath.Join(dir, "data", s.Name))+"\n"...), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := demo.End(&sites[0].Process, &sites[1].Process); err != nil {
			t.Error(err)
		}
	})
	for _, s := range sites {
		if err := s.Start(program); err != nil {
			t.Fatal(err)
		}
	}
	session := demo.NewSessionID()
	for i, s := range sites {
		if err := s.Await(t.Context(), sites); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			for _, at := range sites {
				visit(t, at, session)
			}
		}
	}
	all := shown{}
	for _, s := range sites {
		all.read(t, s.Admin)
	}
	return all
}

// visit stores a session, and reads it.
func visit(t *testing.T, s *demo.Site, session string) {
	t.Helper()
	c, err := demo.Connect(s.Web)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, method := range []string{"PUT", "GET"} {
		if a, err := c.Do(method, session, "Timeout:20\r\n", "x"); err != nil || a.Status != "200" {
			t.Fatalf("%s: %+v, %v", method, a, err)
		}
	}
}

func (all shown) read(t *testing.T, addr string) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range families {
		names := []string{name}
		if f.GetType().String() == "HISTOGRAM" {
			names = []string{name + "_bucket", name + "_sum", name + "_count"}
		}
		for _, name := range names {
			if all[name] == nil {
				all[name] = map[string]map[string]bool{"instance": nil, "job": nil}
			}
			if strings.HasSuffix(name, "_bucket") {
				all[name]["le"] = nil
			}
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if all[name][l.GetName()] == nil {
						all[name][l.GetName()] = map[string]bool{}
					}
					all[name][l.GetName()][l.GetValue()] = true
				}
			}
		}
	}
}

var (
	metric  = regexp.MustCompile(`\b((?:peerstate|process|go)_[a-z_]+)\b(?:\{([^}]*)\})?`)
	matcher = regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
	by      = regexp.MustCompile(`\bby \(([^)]*)\)`)

	histogramPart = regexp.MustCompile(`_(sum|count)$`)
)

// check finds what an expression names and nothing shows.
func (all shown) check(t *testing.T, where, expr string) (found int) {
	t.Helper()
	labels := map[string]bool{}
	for _, m := range metric.FindAllStringSubmatch(expr, -1) {
		its, ok := all[m[1]]
		if !ok {
			t.Errorf("%s: no metric is called %s", where, m[1])
			continue
		}
		found++
		for l := range its {
			labels[l] = true
		}
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			values, ok := its[l[1]]
			if !ok {
				t.Errorf("%s: %s has no label %s", where, m[1], l[1])
			}
			for _, v := range strings.Split(l[3], "|") {
				if values != nil && !values[v] {
					t.Errorf("%s: no %s is %q in %s", where, l[1], v, m[1])
				}
			}
		}
	}
	for _, b := range by.FindAllStringSubmatch(expr, -1) {
		for _, l := range strings.Split(b[1], ",") {
			if !labels[strings.TrimSpace(l)] {
				t.Errorf("%s: it is summed by %q, which nothing in it has", where, strings.TrimSpace(l))
			}
		}
	}
	return found
}

func TestAlertsPanelsAndTheManualNameOnlyWhatIsShown(t *testing.T) {
	all := twoSites(t)
	t.Run("alerts", func(t *testing.T) {
		var rules struct {
			Groups []struct {
				Rules []struct {
					Alert, Expr string
					Labels      map[string]string
					Annotations map[string]string
				}
			}
		}
		read(t, "alerts.yml", yaml.Unmarshal, &rules)
		n := 0
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				n++
				if all.check(t, r.Alert, r.Expr) == 0 && r.Expr != `up{job="peerstate"} == 0` {
					t.Errorf("%s names no metric", r.Alert)
				}
				if s := r.Labels["severity"]; s != "page" && s != "ticket" {
					t.Errorf("%s has the severity %q", r.Alert, s)
				}
				for _, what := range []string{"summary", "description"} {
					if r.Annotations[what] == "" {
						t.Errorf("%s has no %s", r.Alert, what)
					}
				}
			}
		}
		if n == 0 {
			t.Error("there are no alerts")
		}
	})
	t.Run("dashboard", func(t *testing.T) {
		var board struct {
			Panels []struct {
				Title, Type string
				Targets     []struct{ Expr, LegendFormat string }
			}
		}
		read(t, "dashboard.json", json.Unmarshal, &board)
		n := 0
		for _, p := range board.Panels {
			if p.Type == "row" {
				continue
			}
			n++
			if len(p.Targets) == 0 {
				t.Errorf("%s shows nothing", p.Title)
			}
			for _, target := range p.Targets {
				// What the dashboard's own variables stand for.
				expr := strings.NewReplacer(`instance=~"$instance",`, "", `instance=~"$instance"`, "").Replace(target.Expr)
				if all.check(t, p.Title, expr) == 0 {
					t.Errorf("%s names no metric", p.Title)
				}
			}
		}
		if n == 0 {
			t.Error("there are no panels")
		}
	})
	t.Run("manual", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]bool{}
		for _, m := range metric.FindAllStringSubmatch(string(text), -1) {
			if _, ok := all[m[1]]; !ok {
				t.Errorf("README.md names %s, which is not shown", m[1])
			}
			named[m[1]] = true
		}
		for name := range all {
			if strings.HasPrefix(name, "peerstate_") && !named[name] && !named[histogramPart.ReplaceAllString(name, "_bucket")] {
				t.Errorf("README.md does not name %s", name)
			}
		}
	})
}

// read parses a file of this directory.
func read(t *testing.T, name string, parse func([]byte, any) error, into any) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err == nil {
		err = parse(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func TestPromtoolAcceptsTheRules(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian: apt-get install prometheus)")
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}, {"check", "config", "prometheus.yml"}} {
		out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput()
		if err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
