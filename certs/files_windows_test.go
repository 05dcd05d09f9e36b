package certs

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/windows"
)

func TestOnlyTheirOwnerCanReadTheFiles(t *testing.T) {
	ca := newCA(t, "farm", noon)
	node := issue(t, ca, "web1", noon)
	for _, path := range []string{
		ca.dir, filepath.Join(ca.dir, CAKey), filepath.Join(ca.dir, CACert),
		node, filepath.Join(node, NodeKey), filepath.Join(node, NodeCert), filepath.Join(node, CACert),
	} {
		if who, err := Exposure(path); err != nil || who != "" {
			t.Errorf("%s: %q, %v", path, who, err)
		}
	}
}

func TestAKeyThatOthersCanReadIsNoticed(t *testing.T) {
	dir := issue(t, newCA(t, "farm", noon), "web1", noon)
	path := filepath.Join(dir, NodeKey)
	for _, sddl := range []string{"D:P(A;;FR;;;WD)", "D:P(A;;FA;;;SY)(A;;FR;;;BU)"} {
		descriptor, err := windows.SecurityDescriptorFromString(sddl)
		if err != nil {
			t.Fatal(err)
		}
		list, _, err := descriptor.DACL()
		if err != nil {
			t.Fatal(err)
		}
		err = windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT,
			windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, list, nil)
		if err != nil {
			t.Fatal(err)
		}
		if who, err := Exposure(path); err != nil || who == "" {
			t.Errorf("%s is not noticed (%v)", sddl, err)
		}
	}
}
