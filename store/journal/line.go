package journal

import (
	"fmt"
	"hash/crc32"
	"strings"
)

// The small files of the directory are a line, and its checksum in another.

func sealed(line []byte) []byte {
	return fmt.Appendf(line, "\n%08x\n", crc32.Checksum(line, castagnoli))
}

// unsealed is the reverse; false: it is damaged.
func unsealed(data []byte) (line string, ok bool) {
	line, sum, _ := strings.Cut(string(data), "\n")
	return line, sum == fmt.Sprintf("%08x\n", crc32.Checksum([]byte(line), castagnoli))
}
