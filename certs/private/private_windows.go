package private

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// ServiceSID is the account NT SERVICE\peerstate, which only the Windows service of that name has: Windows makes the
// number of such an account from the service's name. What an administrator writes here the service has to
// be able to read, and only administrators can make a service.
const ServiceSID = "S-1-5-80-846654302-4010140366-3993456523-3895121929-876872883"

// privateTo is the security descriptor of all that is written here: it belongs to the current user, and he,
// SYSTEM, the administrators and the service's account may do everything, all others nothing, whatever the directory above
// says. flags are those of the entries: "" for files, "OICI" for directories, whose contents inherit them.
func privateTo(flags string) (*windows.SecurityAttributes, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("find out the current user: %w", err)
	}
	me := user.User.Sid.String()
	var sddl strings.Builder
	fmt.Fprintf(&sddl, "O:%sD:P", me)
	for _, sid := range []string{me, "SY", "BA", ServiceSID} {
		fmt.Fprintf(&sddl, "(A;%s;FA;;;%s)", flags, sid)
	}
	descriptor, err := windows.SecurityDescriptorFromString(sddl.String())
	if err != nil {
		return nil, fmt.Errorf("make an access list: %w", err)
	}
	attributes := &windows.SecurityAttributes{SecurityDescriptor: descriptor}
	attributes.Length = uint32(unsafe.Sizeof(*attributes))
	return attributes, nil
}

// Create makes a new file that only the current user, SYSTEM, the administrators and the service can read. The
// access list is there from the first moment on, not put on a file that others may have opened. While it is
// open others may open it too, as with what the os package opens: a backup program must be able to.
func Create(path string) (*os.File, error) {
	attributes, err := privateTo("")
	if err != nil {
		return nil, err
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: path, Err: err}
	}
	handle, err := windows.CreateFile(name, windows.GENERIC_WRITE, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, attributes,
		windows.CREATE_NEW, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: path, Err: err}
	}
	return os.NewFile(uintptr(handle), path), nil
}

// MakeDir makes a directory that only the current user, SYSTEM, the administrators and the service can look
// into. Those above it are made as usual, and a directory that exists stays as it is.
func MakeDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	attributes, err := privateTo("OICI")
	if err != nil {
		return err
	}
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	err = windows.CreateDirectory(name, attributes)
	if err == nil {
		return nil
	}
	if info, serr := os.Stat(dir); serr == nil && info.IsDir() {
		return nil
	}
	return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
}

// Trusted is an error if a directory belongs to somebody who is neither the current user, SYSTEM, the administrators nor the
// service: every user can make one below C:\ProgramData, and then decides who reads and writes what comes to be in it.
func Trusted(dir string) error {
	d, err := windows.GetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("find out to whom %s belongs: %w", dir, err)
	}
	who, err := stranger(d)
	if err != nil {
		return fmt.Errorf("find out to whom %s belongs: %w", dir, err)
	}
	if who == "" {
		return nil
	}
	return fmt.Errorf("%s belongs to %s, who could read and write what the service keeps there: move it away, and try again", dir, who)
}

// StrangersPipe names whoever has made the named pipe that a handle is connected to; "" if it is the current user, SYSTEM, the
// administrators or the service. Every user can make a pipe of any name that is free, and then is who answers there.
func StrangersPipe(connected windows.Handle) (who string, err error) {
	d, err := windows.GetSecurityInfo(connected, windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return "", fmt.Errorf("find out who has made the pipe: %w", err)
	}
	return stranger(d)
}

// stranger names the owner of something; "" if it is the current user, or may be the owner of what the service uses.
func stranger(d *windows.SECURITY_DESCRIPTOR) (who string, err error) {
	owner, _, err := d.Owner()
	if err != nil {
		return "", fmt.Errorf("read the owner: %w", err)
	}
	if owner == nil {
		return "", errors.New("read the owner: there is none")
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return "", fmt.Errorf("find out the current user: %w", err)
	}
	if owner.Equals(user.User.Sid) || mayOwn(owner) {
		return "", nil
	}
	return nameOf(owner), nil
}

func mayOwn(owner *windows.SID) bool {
	return owner.IsWellKnown(windows.WinLocalSystemSid) || owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) || owner.String() == ServiceSID
}

// nameOf is an account's name, or its number if it has none.
func nameOf(sid *windows.SID) string {
	account, domain, _, err := sid.LookupAccount("")
	if err != nil {
		return sid.String()
	}
	if domain == "" {
		return account // Everyone
	}
	return domain + `\` + account
}

// SyncDir does nothing: Windows has no way to force a directory to disk, and NTFS keeps a journal of
// renames.
func SyncDir(string) error { return nil }
