package proxy

// name is a header that means something here.
type name uint8

const (
	nameOther name = iota
	nameMalformed
	nameTimeout
	nameExtraFlags
	nameExclusive
	nameLockCookie
	nameContentLength
	nameTransferEncoding
	nameExpect
	nameConnection
	nameUserAgent
	nameSecFetch
)

// nameOf tells which header this is. Names are nearly always written as in the documents; only
// another spelling costs more than a comparison.
func nameOf(b []byte) name {
	switch string(b) {
	case "Host":
		return nameOther
	case "Timeout":
		return nameTimeout
	case "ExtraFlags":
		return nameExtraFlags
	case "Exclusive":
		return nameExclusive
	case "LockCookie":
		return nameLockCookie
	case "Content-Length":
		return nameContentLength
	}
	for _, c := range b {
		if c <= ' ' {
			return nameMalformed // also a line continued from the one before, which RFC 9112 forbids
		}
	}
	switch {
	case is(b, "timeout"):
		return nameTimeout
	case is(b, "extraflags"):
		return nameExtraFlags
	case is(b, "exclusive"):
		return nameExclusive
	case is(b, "lockcookie"), is(b, "lock-cookie"): // the latter in [MS-ASP]'s examples
		return nameLockCookie
	case is(b, "content-length"):
		return nameContentLength
	case is(b, "transfer-encoding"):
		return nameTransferEncoding
	case is(b, "expect"):
		return nameExpect
	case is(b, "connection"):
		return nameConnection
	case is(b, "user-agent"):
		return nameUserAgent
	case is(b, "sec-fetch-mode"), is(b, "sec-fetch-site"), is(b, "sec-fetch-dest"):
		return nameSecFetch
	}
	return nameOther
}

// is compares with a word in lower case, without regard to case. The word may consist of letters,
// digits and hyphens; b may not contain control characters.
func is(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if c|0x20 != word[i] {
			return false
		}
	}
	return true
}
