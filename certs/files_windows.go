package certs

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"

	"peerstate/certs/private"
)

// Exposure says in one phrase who else can read a key file, and what to do about it. It is empty if only
// the file's owner, the current user, SYSTEM, the administrators and the service's account can.
func Exposure(path string) (string, error) {
	who, err := otherReaders(path)
	if err != nil {
		return "", fmt.Errorf("look at who can read %s: %w", path, err)
	}
	if len(who) == 0 {
		return "", nil
	}
	// SYSTEM and the administrators by number: their names differ from language to language.
	return fmt.Sprintf(`%s may read it; icacls "%s" /inheritance:r /grant:r *S-1-5-18:F *S-1-5-32-544:F (and grant it to the account that runs peerstate, if that is another one)`,
		strings.Join(who, ", "), path), nil
}

// otherReaders lists the accounts that the file's access list lets read it and that have no business to.
func otherReaders(path string) ([]string, error) {
	descriptor, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT,
		windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return nil, err
	}
	owner, _, err := descriptor.Owner()
	if err != nil {
		return nil, err
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, err
	}
	list, _, err := descriptor.DACL()
	if errors.Is(err, windows.ERROR_OBJECT_NOT_FOUND) || err == nil && list == nil {
		return []string{"everybody"}, nil // no access list: no limits
	}
	if err != nil {
		return nil, err
	}
	var who []string
	for i := range uint32(list.AceCount) {
		var entry *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &entry); err != nil {
			return nil, err
		}
		const read = windows.FILE_READ_DATA | windows.GENERIC_READ | windows.GENERIC_ALL
		if entry.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE ||
			entry.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0 || entry.Mask&read == 0 {
			continue
		}
		sid := (*windows.SID)(unsafe.Pointer(&entry.SidStart))
		if sid.Equals(user.User.Sid) || owner != nil && sid.Equals(owner) ||
			sid.IsWellKnown(windows.WinLocalSystemSid) || sid.IsWellKnown(windows.WinBuiltinAdministratorsSid) ||
			sid.String() == private.ServiceSID {
			continue
		}
		who = append(who, accountName(sid))
	}
	return who, nil
}

func accountName(sid *windows.SID) string {
	account, domain, _, err := sid.LookupAccount("")
	switch {
	case err != nil:
		return sid.String()
	case domain == "":
		return account
	default:
		return domain + `\` + account
	}
}

// lock makes f locked by this process, or fails at once if another one has done so. What is locked is a byte far
// beyond its end, so that the file can be copied meanwhile.
func lock(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0,
		&windows.Overlapped{OffsetHigh: 1 << 30})
}
