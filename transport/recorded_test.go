package transport

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
)

// The frames of each kind that a release has written, with all fields set, are in testdata/frames-N, where N is the version
// of the protocol that it spoke: this version has to read them, and what it writes must be read by that one. Before a
// release that speaks a new version, record them: go test ./transport -run Recorded -frames.record
var record = flag.Bool("frames.record", false, "record the frames of this version of the protocol in testdata")

// headers is what stands in a frame of each kind.
func headers() map[kind]any {
	return map[kind]any{
		kindHello: hello{}, kindWelcome: welcome{}, kindRefuse: refuse{}, kindPing: ping{}, kindPong: ping{}, kindQuestion: question{},
		kindReply: reply{}, kindReceipt: receipt{}, kindForward: forward{}, kindAnswer: answer{}, kindDoubt: doubt{}, kindFate: fate{},
		kindSettle: settle{}, kindSettlement: settlement{}, kindGive: give{}, kindBye: bye{}, kindForget: forget{}, kindNodes: nodeList{},
		kindKeep: keep{}, kindKept: kept{}, kindLeave: bye{}, kindLinks: linkList{}, kindVia: via{}, kindRenew: bye{}, kindDone: bye{},
		kindDocument: document{}, kindWant: want{}, kindCertify: certify{}, kindCertified: certified{}, kindConfirm: confirmAsk{},
		kindConfirmed: confirmed{}, kindExplain: explainAsk{}, kindTrace: trace{}, kindExplained: explained{}, kindUse: use{}, kindUsed: used{},
	}
}

// fill sets all fields of a header, each number to another value.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8:
		v.SetUint(uint64(*n % 100))
	case reflect.Uint32:
		v.SetUint(1<<30 + uint64(*n))
	case reflect.Uint, reflect.Uint64:
		v.SetUint(1<<60 + uint64(*n))
	default:
		panic("a field of another type: " + v.Type().String())
	}
}

// filled is a frame of a kind as this version writes it, with all fields set.
func filled(header any) []byte {
	v := reflect.New(reflect.TypeOf(header)).Elem()
	n := 0
	fill(v, &n)
	return mustEncode(v.Interface())
}

func mustEncode(header any) []byte {
	b, err := encoding.Marshal(header)
	if err != nil {
		panic(err)
	}
	return b
}

// recorded reads the frames of a version of the protocol.
func recorded(t *testing.T, version int) map[kind][]byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", fmt.Sprintf("frames-%d", version)))
	if err != nil {
		t.Fatal(err)
	}
	all := map[kind][]byte{}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		var k kind
		var text string
		if _, err := fmt.Sscanf(lines.Text(), "%d %s", &k, &text); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if all[k], err = hex.DecodeString(text); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func generic(t *testing.T, b []byte) (v any) {
	t.Helper()
	if err := cbor.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// within finds what stands in one header and not, or otherwise, in another; values: not only of another type.
func within(part, whole any, values bool, at string) (missing []string) {
	if reflect.TypeOf(part) != reflect.TypeOf(whole) {
		return []string{fmt.Sprintf("%s: %T became %T", at, part, whole)}
	}
	switch part := part.(type) {
	case map[any]any:
		for key, value := range part {
			missing = append(missing, within(value, whole.(map[any]any)[key], values, fmt.Sprintf("%s/%v", at, key))...)
		}
	case []any:
		if len(whole.([]any)) != len(part) {
			return []string{fmt.Sprintf("%s: %d became %d", at, len(part), len(whole.([]any)))}
		}
		for i := range part {
			missing = append(missing, within(part[i], whole.([]any)[i], values, fmt.Sprintf("%s/%d", at, i))...)
		}
	default:
		if values && !cmp.Equal(part, whole) {
			missing = append(missing, fmt.Sprintf("%s: %v became %v", at, part, whole))
		}
	}
	return missing
}

func TestRecordedFramesOfEarlierVersionsAreReadWhole(t *testing.T) {
	if *record {
		var b strings.Builder
		for k := kindHello; k < kindEnd; k++ {
			fmt.Fprintf(&b, "%d %x\n", k, filled(headers()[k]))
		}
		if err := os.WriteFile(filepath.Join("testdata", fmt.Sprintf("frames-%d", maxVersion)), []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for version := minVersion; version < maxVersion; version++ {
		all := recorded(t, version)
		for k, was := range all {
			header := reflect.New(reflect.TypeOf(headers()[k]))
			if err := decode(was, header.Interface()); err != nil {
				t.Errorf("kind %d of version %d: %v", k, version, err)
				continue
			}
			if missing := within(generic(t, was), generic(t, mustEncode(header.Interface())), true, ""); missing != nil {
				t.Errorf("kind %d of version %d is not read as it was meant: %q", k, version, missing)
			}
		}
		for k := kindHello; k < kindEnd; k++ {
			if _, was := all[k]; was != (k.since() <= version) {
				t.Errorf("kind %d: version %d has it: %v, and kind.since gives %d", k, version, was, k.since())
			}
		}
	}
}

// A farm is taken back to the release before: what this version writes is to that one what it knows, with fields that
// it skips. That it reads no more deeply nested or longer headers than this one does is checked by decoding them here.
func TestFramesOfThisVersionAreReadByTheRecordedOnes(t *testing.T) {
	for k, header := range headers() {
		now := filled(header)
		if err := decode(now, reflect.New(reflect.TypeOf(header)).Interface()); err != nil {
			t.Errorf("kind %d: %v", k, err)
		}
		for version := minVersion; version < maxVersion; version++ {
			if k.since() > version {
				continue // it is not sent there
			}
			if missing := within(generic(t, recorded(t, version)[k]), generic(t, now), false, ""); missing != nil {
				t.Errorf("kind %d is not what version %d knows: %q", k, version, missing)
			}
		}
	}
	if len(headers()) != int(kindEnd)-1 {
		t.Errorf("%d kinds are looked at, there are %d", len(headers()), kindEnd-1)
	}
}
