package private

import (
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"golang.org/x/sys/windows"
)

func TestTheServicesAccountHasTheNumberThatWindowsMakesFromItsName(t *testing.T) {
	number := func(service string) string {
		h := sha1.New()
		for _, c := range utf16.Encode([]rune(strings.ToUpper(service))) {
			h.Write([]byte{byte(c), byte(c >> 8)})
		}
		sid := "S-1-5-80"
		for sum := h.Sum(nil); len(sum) > 0; sum = sum[4:] {
			sid += fmt.Sprint("-", binary.LittleEndian.Uint32(sum))
		}
		return sid
	}
	// One that Windows documents.
	if got := number("TrustedInstaller"); got != "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464" {
		t.Fatalf("the number of TrustedInstaller is %s", got)
	}
	if got := number("peerstate"); got != ServiceSID {
		t.Errorf("it is %s, and not %s", got, ServiceSID)
	}
	if _, err := windows.StringToSid(ServiceSID); err != nil {
		t.Error(err)
	}
}

func TestADirectoryOfTheCurrentUserIsTrusted(t *testing.T) {
	if err := Trusted(t.TempDir()); err != nil {
		t.Error(err)
	}
}

func TestOnlyWhoAdministersTheMachineMayOwnTheServicesDirectory(t *testing.T) {
	for sid, want := range map[string]bool{
		"S-1-5-18":     true, // SYSTEM
		"S-1-5-32-544": true, // the administrators
		ServiceSID:     true,
		"S-1-5-32-545": false, // the users
		"S-1-5-11":     false, // whoever has logged in
		"S-1-5-21-1004336348-1177238915-682003330-1001": false,
	} {
		owner, err := windows.StringToSid(sid)
		if err != nil {
			t.Fatal(err)
		}
		if got := mayOwn(owner); got != want {
			t.Errorf("%s: %v", sid, got)
		}
	}
}

func TestAStrangerIsWhoeverIsNotTheUserAndDoesNotAdministerTheMachine(t *testing.T) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	for sid, trusted := range map[string]bool{user.User.Sid.String(): true, "S-1-5-18": true, "S-1-5-32-544": true, ServiceSID: true, "S-1-5-32-545": false, "S-1-5-20": false} {
		d, err := windows.SecurityDescriptorFromString("O:" + sid)
		if err != nil {
			t.Fatal(err)
		}
		who, err := stranger(d)
		if err != nil || (who == "") != trusted {
			t.Errorf("of %s it says %q, %v", sid, who, err)
		}
	}
	nobody, err := windows.SecurityDescriptorFromString("D:(A;;GA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	if who, err := stranger(nobody); err == nil {
		t.Errorf("the owner of what has none is %q", who)
	}
}
