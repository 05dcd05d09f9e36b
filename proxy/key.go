package proxy

import "slices"

// Classes of bytes in a target.
const (
	control = iota // refused
	plain
	slash
	plus
	percent
)

// class tells what a byte in a target is; what is above ASCII is plain.
var class = func() (t [256]uint8) {
	for c := range t {
		if c >= 0x20 && c != 0x7f {
			t[c] = plain
		}
	}
	t['/'], t['+'], t['%'] = slash, plus, percent
	return t
}()

// unhex gives the value of a hex digit, and 0xff for any other byte.
var unhex = func() (t [256]uint8) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range uint8(10) {
		t['0'+i] = i
	}
	for i := range uint8(6) {
		t['a'+i], t['A'+i] = 10+i, 10+i
	}
	return t
}()

// decodeKey writes the session's key that target names over key: percent-decoded, + being a space,
// without the slashes in front, of which clients of different age send none, one or two. The
// key's memory is used again.
func decodeKey(key, target []byte) ([]byte, refusal) {
	key = slices.Grow(key[:0], len(target))[:len(target)]
	n := 0
	for i := 0; i < len(target); i++ {
		c := target[i]
		switch class[c] {
		case plain:
			key[n] = c
			n++
			continue
		case plus:
			c = ' '
		case percent:
			if i+2 >= len(target) {
				return key[:0], badEscape
			}
			hi, lo := unhex[target[i+1]], unhex[target[i+2]]
			if hi|lo > 0xf {
				return key[:0], badEscape
			}
			c = hi<<4 | lo
			i += 2
		}
		if class[c] == control {
			return key[:0], controlBytes
		}
		if c == '/' && n == 0 {
			continue
		}
		key[n] = c
		n++
	}
	if n == 0 {
		return key, noTarget
	}
	return key[:n], sound
}
