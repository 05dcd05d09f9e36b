package private

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/windows"
)

// trustedInstaller is the account that the files of Windows belong to.
const trustedInstaller = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"

// Names of nobody in an access list: who makes something, and whoever it belongs to, which is looked at by itself.
const (
	creatorOwner = "S-1-3-0"
	creatorGroup = "S-1-3-1"
	ownerRights  = "S-1-3-4"
)

// Rights in an access list.
const (
	toRead   = windows.ACCESS_MASK(windows.FILE_READ_DATA | windows.GENERIC_READ | windows.GENERIC_ALL)
	toOwn    = windows.ACCESS_MASK(windows.DELETE | windows.WRITE_DAC | windows.WRITE_OWNER | windows.GENERIC_WRITE | windows.GENERIC_ALL)
	toWrite  = toOwn | windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA // a file
	toChange = toOwn | windows.FILE_WRITE_DATA | fileDeleteChild          // a directory: put a file there, or take one away

	fileDeleteChild = 0x40 // FILE_DELETE_CHILD
)

// Changers are the accounts, by their names, that may put another program in the place of this one, or a library beside it,
// though they do not administer the machine: by the access lists and the owners of the file and its directory.
func Changers(program string) ([]string, error) {
	file, err := whoMay(program, toWrite, false)
	if err != nil {
		return nil, err
	}
	dir, err := whoMay(filepath.Dir(program), toChange, false)
	if err != nil {
		return nil, err
	}
	all := append(file, dir...)
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Others are the accounts, by their names, that may look into a directory of the service or write there, besides those that
// administer the machine, the service itself, and whom it belongs to: who installed the service (see [Trusted]).
func Others(dir string) ([]string, error) { return whoMay(dir, toRead|toChange, true) }

// Enclose gives a directory that was there already the access list that [MakeDir] gives a new one, if others may look
// into it or write there: below C:\ProgramData all users may, unless somebody has seen to it. changed: it was so. It is
// an error if something in it belongs to somebody else, who may have put it there.
func Enclose(dir string) (changed bool, err error) {
	others, err := Others(dir)
	if err != nil || len(others) == 0 {
		return false, err
	}
	attributes, err := privateTo("OICI")
	if err != nil {
		return false, err
	}
	list, _, err := attributes.SecurityDescriptor.DACL()
	if err != nil {
		return false, fmt.Errorf("make an access list: %w", err)
	}
	// First nobody can add anything; then what is there is looked at.
	err = windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION,
		nil, nil, list, nil)
	if err != nil {
		return false, fmt.Errorf("keep %s from others: %w", dir, err)
	}
	return true, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return Trusted(path)
	})
}

// whoMay are the accounts besides the trusted ones that an access list gives one of these rights, or that own it; its
// owner may be trusted, too.
func whoMay(path string, rights windows.ACCESS_MASK, trustOwner bool) ([]string, error) {
	d, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return nil, fmt.Errorf("find out who may use %s: %w", path, err)
	}
	sids, err := granted(d, rights)
	if err != nil {
		return nil, fmt.Errorf("find out who may use %s: %w", path, err)
	}
	me, err := administrator()
	if err != nil {
		return nil, err
	}
	owner, _, err := d.Owner()
	if err != nil {
		return nil, fmt.Errorf("find out to whom %s belongs: %w", path, err)
	}
	var names []string
	for _, sid := range sids {
		if me != nil && sid.Equals(me) || trustOwner && sid.Equals(owner) {
			continue
		}
		names = append(names, nameOf(sid))
	}
	return names, nil
}

// granted goes through an access list. What it denies is not made up for: few lists do, and then it says too much.
func granted(d *windows.SECURITY_DESCRIPTOR, rights windows.ACCESS_MASK) (sids []*windows.SID, err error) {
	add := func(sid *windows.SID) {
		if !mayAdminister(sid) && !slices.ContainsFunc(sids, sid.Equals) {
			sids = append(sids, sid)
		}
	}
	owner, _, err := d.Owner()
	if err != nil {
		return nil, err
	}
	add(owner)
	list, _, err := d.DACL()
	if errors.Is(err, windows.ERROR_OBJECT_NOT_FOUND) || err == nil && list == nil {
		everyone, err := windows.CreateWellKnownSid(windows.WinWorldSid) // without a list everybody may do everything
		return append(sids, everyone), err
	}
	if err != nil {
		return nil, err
	}
	for i := range uint32(list.AceCount) {
		var entry *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &entry); err != nil {
			return nil, err
		}
		if entry.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE || entry.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0 || entry.Mask&rights == 0 {
			continue
		}
		add(sidOf(entry))
	}
	return sids, nil
}

// sidOf is the account of an entry, which stands at its end.
func sidOf(entry *windows.ACCESS_ALLOWED_ACE) *windows.SID {
	return (*windows.SID)(unsafe.Pointer(&entry.SidStart))
}

// mayAdminister tells those who may do what they like anyway, and the names of nobody.
func mayAdminister(sid *windows.SID) bool {
	return mayOwn(sid) || slices.Contains([]string{trustedInstaller, creatorOwner, creatorGroup, ownerRights}, sid.String())
}

// administrator is the current user if he administers the machine, and otherwise nil.
func administrator() (*windows.SID, error) {
	token := windows.GetCurrentProcessToken()
	if !token.IsElevated() {
		return nil, nil
	}
	user, err := token.GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("find out the current user: %w", err)
	}
	return user.User.Sid, nil
}
