package main

import (
	goparser "go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestEachPartImportsOnlyWhatItMay reads the imports of the program's files, those for other systems, too.
func TestEachPartImportsOnlyWhatItMay(t *testing.T) {
	may := map[string][]string{
		"cmd":       {"proxy", "transport", "certs", "store"},
		"proxy":     {"store"},
		"transport": {"store", "certs"},
		"store":     nil,
		"certs":     nil,
	}
	// Files that are for their owner only are no matter of certificates; the journal has some as well.
	excused := map[string]string{"store/journal": "certs/private"}

	root := filepath.Join("..", "..")
	for part, others := range may {
		read := 0
		err := filepath.WalkDir(filepath.Join(root, part), func(file string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
				return err
			}
			parsed, err := goparser.ParseFile(token.NewFileSet(), file, nil, goparser.ImportsOnly)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			read++
			from := path.Dir(filepath.ToSlash(rel))
			for _, imported := range parsed.Imports {
				name, err := strconv.Unquote(imported.Path.Value)
				if err != nil {
					return err
				}
				name, own := strings.CutPrefix(name, "peerstate/")
				if !own || excused[from] == name {
					continue
				}
				if top, _, _ := strings.Cut(name, "/"); top != part && !slices.Contains(others, top) {
					t.Errorf("%s imports %s: %s may import %v of the other parts", filepath.ToSlash(rel), name, part, others)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if read == 0 {
			t.Errorf("no files were found in %s", part)
		}
	}
}
