package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"peerstate/cmd/peerstate/nearest"
	"peerstate/cmd/peerstate/service"
)

// sources is where values come from: the environment first, then one file of NAME=value lines. That
// is the file of --env-file, or without one the file peerstate.env beside the program, or else the file of
// the installed service, if there is one: so check and config see what the service sees.
type sources struct {
	byName   map[string]sourced // full names
	warnings []string
}

type sourced struct {
	value  string
	origin string // "environment", "FILE line N"
}

// BesideName is the file beside the program.
const BesideName = "peerstate.env"

// Read reads the settings of environ (NAME=value each), and those that are not there from file, or from otherwise
// if file is empty; "": from no file. A wrong value is Wrong; any other error is about the file.
func Read(file, otherwise string, environ []string) (*Settings, error) {
	values, err := readSources(file, otherwise, environ)
	if err != nil {
		return nil, err
	}
	return newSettings(values)
}

// Usual is where the settings are without --env-file: the file beside the program, or that of the installed service.
func Usual() string { return usual(besideProgram()) }

// usual takes the one beside the program if there is any, be it one that cannot be read: whoever reads it says so.
func usual(beside string) string {
	if _, err := os.Stat(beside); !errors.Is(err, fs.ErrNotExist) {
		return beside
	}
	return service.Defaults().Env
}

// besideProgram is the path of the file beside the program, or "" if the program does not know where
// it lies.
func besideProgram() string {
	program, err := os.Executable()
	if err != nil {
		return ""
	}
	if target, err := filepath.EvalSymlinks(program); err == nil {
		program = target
	}
	return filepath.Join(filepath.Dir(program), BesideName)
}

// readSources collects the settings of environ (NAME=value each) and of file; of beside if file is
// empty. It warns about names that mean nothing.
func readSources(file, beside string, environ []string) (sources, error) {
	s := sources{byName: make(map[string]sourced)}
	known := make(map[string]bool)
	var names []string
	for _, set := range allSettings() {
		known[set.Name] = true
		names = append(names, set.Name)
	}
	unknown := func(name, origin string) {
		w := fmt.Sprintf("%s (%s) is not a setting", name, origin)
		if near := nearest.To(name, names); near != "" {
			w += ": did you mean " + near + "?"
		}
		s.warnings = append(s.warnings, w)
	}

	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		name = envName(name)
		switch {
		case known[name]:
			s.byName[name] = sourced{value, "environment"}
		case strings.HasPrefix(name, prefix):
			unknown(name, "environment")
		}
	}

	lines, err := readEnvFile(file, beside)
	if err != nil {
		return sources{}, err
	}
	inFile := make(map[string]int)
	for _, l := range lines {
		origin := fmt.Sprintf("%s line %d", l.file, l.number)
		if before := inFile[l.name]; before > 0 {
			return sources{}, fmt.Errorf("%s: %s stands in line %d already", origin, l.name, before)
		}
		inFile[l.name] = l.number
		if !known[l.name] {
			unknown(l.name, origin)
			continue
		}
		if _, ok := s.byName[l.name]; !ok {
			s.byName[l.name] = sourced{l.value, origin}
		}
	}
	return s, nil
}

type envLine struct {
	file        string
	number      int
	name, value string
}

// readEnvFile reads file, which must be there, or else beside, which need not.
func readEnvFile(file, beside string) ([]envLine, error) {
	optional := file == ""
	if optional {
		file = beside
	}
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(file, err)
	}
	return parseEnvFile(file, text)
}

// unreadable says what an operator can do about a file of settings that cannot be read.
func unreadable(file string, err error) error {
	if info, serr := os.Stat(file); serr == nil && info.IsDir() {
		return fmt.Errorf("read settings: %s is a directory; name the file in it", file)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read settings: there is no file %s; peerstate config > %s makes one, with all that is in force without it", file, file)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("read settings: this account may not read %s; use the one that runs peerstate, or an administrator's", file)
	}
	return fmt.Errorf("read settings: %w", err)
}

// parseEnvFile reads lines of NAME=value. Blank lines, lines that begin with #, and what follows " #"
// are ignored; "export " may stand in front. A value may stand in a pair of single or double quotes;
// nothing in it is replaced or escaped, so that C:\new\certs is what it looks like. That is
// why this is not a shell's or a dotenv library's reader: those turn "\n" into a line break.
func parseEnvFile(file string, text []byte) ([]envLine, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // Notepad's mark of UTF-8
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return nil, fmt.Errorf("read settings: %s is not UTF-8 text: save it as UTF-8", file)
	}
	var lines []envLine
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		name = envName(strings.TrimSpace(name))
		if !ok || name == "" || strings.ContainsAny(name, " \t\"'") {
			return nil, fmt.Errorf("%s line %d: it should be NAME=value, or a comment that begins with #", file, number)
		}
		value, err := unquoteValue(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("%s line %d: %s: %w", file, number, name, err)
		}
		lines = append(lines, envLine{file, number, name, value})
	}
	return lines, nil
}

// unquoteValue takes a comment and one pair of quotes off a value.
func unquoteValue(v string) (string, error) {
	if v != "" && (v[0] == '"' || v[0] == '\'') {
		inside, after, ok := strings.Cut(v[1:], v[:1])
		after = strings.TrimSpace(after)
		if !ok || after != "" && after[0] != '#' {
			return "", fmt.Errorf("the quote %c should be closed at the end of the value", v[0])
		}
		return inside, nil
	}
	if strings.HasPrefix(v, "#") {
		return "", nil
	}
	for _, mark := range []string{" #", "\t#"} {
		v, _, _ = strings.Cut(v, mark)
	}
	return strings.TrimSpace(v), nil
}

// Quote writes a value as it must stand in a file of settings. (What needs quotes and has both kinds inside
// cannot be written; that would be a strange directory.)
func Quote(v string) string {
	plain, err := unquoteValue(v)
	switch {
	case err == nil && plain == v:
		return v
	case !strings.Contains(v, `"`):
		return `"` + v + `"`
	}
	return `'` + v + `'`
}
