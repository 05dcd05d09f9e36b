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
