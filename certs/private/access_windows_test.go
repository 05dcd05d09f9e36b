package private

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/windows"
)

func TestWhoMayReplaceAProgramIsReadFromItsAccessList(t *testing.T) {
	for name, c := range map[string]struct {
		list string
		want []string
	}{
		// As below C:\Program Files, and in a folder that was made in C:\.
		"Program Files": {"O:S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464D:PAI(A;;FA;;;S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464)" +
			"(A;OICIIO;GA;;;CO)(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)", nil},
		"C:\\tools": {"O:BAD:AI(A;OICIID;FA;;;BA)(A;OICIID;FA;;;SY)(A;OICIID;0x1200a9;;;BU)(A;ID;0x1301bf;;;AU)(A;OICIIOID;SDGXGWGR;;;AU)",
			[]string{"S-1-5-11"}},
		"a user's":            {"O:S-1-5-21-1-2-3-1001D:P(A;;FA;;;SY)(A;;FA;;;S-1-5-21-1-2-3-1001)", []string{"S-1-5-21-1-2-3-1001"}},
		"the right to own":    {"O:BAD:P(A;;WO;;;BU)", []string{"S-1-5-32-545"}},
		"for what is below":   {"O:BAD:P(A;OICIIO;FA;;;BU)", nil},
		"only subdirectories": {"O:BAD:P(A;;LC;;;BU)", nil},
		"what is denied":      {"O:BAD:P(D;;FA;;;BU)", nil},
		"the service's":       {"O:" + ServiceSID + "D:P(A;;FA;;;" + ServiceSID + ")(A;;FA;;;OW)", nil},
		"without a list":      {"O:BA", []string{"S-1-1-0"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := windows.SecurityDescriptorFromString(c.list)
			if err != nil {
				t.Fatal(err)
			}
			sids, err := granted(d, toChange)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, sid := range sids {
				got = append(got, sid.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// openToEverybody makes a directory that all users may look into and write in, with a file.
func openToEverybody(t *testing.T) (dir, file string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "peerstate")
	file = filepath.Join(dir, "peerstate.env")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := open.DACL()
	if err != nil {
		t.Fatal(err)
	}
	err = windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION,
		nil, nil, list, nil)
	if err != nil {
		t.Fatal(err)
	}
	return dir, file
}

func TestAProgramInADirectoryThatEverybodyMayWriteInMayBeReplaced(t *testing.T) {
	dir, file := openToEverybody(t)
	for what, names := range map[string]func() ([]string, error){
		"the file":      func() ([]string, error) { return Changers(file) },
		"the directory": func() ([]string, error) { return Others(dir) },
	} {
		if by, err := names(); err != nil || !slices.ContainsFunc(by, func(name string) bool { return name == "Everyone" }) {
			t.Errorf("%s may be changed by %v, %v", what, by, err)
		}
	}
	if changed, err := Enclose(dir); err != nil || !changed {
		t.Errorf("it was not kept from others: %v, %v", changed, err)
	}
}

func TestADirectoryThatWasEnclosedIsOpenToNobodyElse(t *testing.T) {
	dir, _ := openToEverybody(t)
	if _, err := Enclose(dir); err != nil {
		t.Fatal(err)
	}
	if others, err := Others(dir); err != nil || len(others) > 0 {
		t.Errorf("it is still open to %v, %v", others, err)
	}
	if changed, err := Enclose(dir); err != nil || changed {
		t.Errorf("a second time: %v, %v", changed, err)
	}
}
