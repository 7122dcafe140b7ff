package wire_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// This file judges the vectors with the rules of docs/protocol.md and nothing else:
// it is the proof that the document is enough. It must not use any package of ours.

// errRefused is what every rule gives that does not hold.
var errRefused = errors.New("refused")

func require(ok bool) {
	if !ok {
		panic(errRefused)
	}
}

// A document is one file of testdata.
type document struct {
	fields map[string]string
	raw    []byte
}

func readDocument(t *testing.T, path string) document {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	head, digits, ok := strings.Cut(string(text), "\n\n")
	if !ok {
		t.Fatalf("%s has no empty line", path)
	}
	d := document{fields: make(map[string]string)}
	for line := range strings.Lines(head) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		d.fields[name] = value
	}
	d.raw, err = hex.DecodeString(strings.ReplaceAll(digits, "\n", ""))
	must(t, err)
	return d
}

func (d document) bytes(name string) []byte {
	raw, err := hex.DecodeString(d.fields[name])
	if err != nil || len(raw) == 0 {
		panic("the file has no " + name)
	}
	return raw
}

func TestDocumentIsEnoughToJudgeTheVectors(t *testing.T) {
	judges := map[string]func(document){
		"door": judgeDoor, "plaintext": judgePlaintext, "gossip": judgeGossip, "batch of events": judgeFilling,
		"batch of queries": judgeQueries, "batch of replies": judgeFilling, "taken": judgeTaken, "receipt": judgeReceipt, "reply": judgeReply,
		"challenge": judgeChallenge, "path response": judgeResponse,
		"node record": judgeRecord, "epoch statement": judgeStatement, "revocation": judgeRevocation,
		"knock": judgeKnock, "frame": judgeFrame, "hello": judgeHello, "secret request": judgeSecretRequest,
		"ack": judgeAck, "refusal": judgeRefusal, "carried packet": judgeCarried,
	}
	files, err := filepath.Glob("testdata/*.txt")
	must(t, err)
	if len(files) < 60 {
		t.Fatalf("%d vectors: they are elsewhere", len(files))
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			d := readDocument(t, path)
			judge := judges[d.fields["message"]]
			if judge == nil {
				t.Fatalf("no rule for a %s", d.fields["message"])
			}
			got := "accept"
			func() {
				defer func() {
					if reason := recover(); reason != nil {
						if reason != errRefused {
							panic(reason)
						}
						got = "refuse"
					}
				}()
				judge(d)
			}()
			if want := d.fields["receiver"]; got != want {
				t.Errorf("%s: got %s, want %s", d.fields["why"], got, want)
			}
		})
	}
}

func TestDocumentIsReadWithoutOurCode(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "document_test.go", nil, parser.ImportsOnly)
	must(t, err)
	for _, spec := range file.Imports {
		if strings.Contains(spec.Path.Value, ".") {
			t.Errorf("document_test.go imports %s", spec.Path.Value)
		}
	}
}

// Sections 4.2 and 4.3.

func judgeDoor(d document) {
	require(len(d.raw) == 16 && (d.raw[0] >= 1 && d.raw[0] <= 11 || d.raw[0] >= 13 && d.raw[0] <= 19) && isZero(d.raw[12:]))
}

func judgePlaintext(d document) {
	length := int(binary.BigEndian.Uint16(d.raw))
	require(length <= 1182 && 2+length <= len(d.raw))
	padding := d.raw[2+length:]
	require(len(padding) < 64 && isZero(padding) && (16+len(d.raw)+16)%64 == 0)
}

// Section 5.

func judgeGossip(d document) {
	require(len(d.raw) > 0 && len(d.raw) <= 1182 && d.raw[0] <= 12)
	rest := d.raw[1:]
	for range d.raw[0] {
		_, rest = item(rest, 800)
	}
	require(len(rest) > 0)
}

func judgeReceipt(d document) { require(len(d.raw) == 16) }

func judgeQueries(d document) {
	require(len(d.raw) <= 1182)
	count := 0
	for rest := d.raw; len(rest) > 0; count++ {
		_, rest = item(rest, 1100)
	}
	require(count >= 1 && count <= 12)
}

// judgeFilling judges batches of events and of replies: one item may fill a datagram.
func judgeFilling(d document) {
	require(len(d.raw) <= 1182)
	count := 0
	for rest := d.raw; len(rest) > 0; count++ {
		_, rest = item(rest, 1180)
	}
	require(count >= 1 && count <= 12)
}

func judgeTaken(d document) {
	require(len(d.raw) == 17 && d.raw[16] >= 1 && d.raw[16] <= 3)
}

func judgeReply(d document) {
	require(len(d.raw) <= 1048832)
	fields := openSigned(d, "secgossip/1 reply")
	query, name, kind := fields.bytes(1), fields.text(2), fields.uint(3)
	require(len(query) == 16 && len(name) >= 1 && len(name) <= 63 && kind >= 1 && kind <= 3)
	if payload, ok := fields[4]; ok {
		require(kind == 2 && len(payload.([]byte)) > 0 && len(payload.([]byte)) <= 1048576)
		delete(fields, 4)
	}
	require(len(fields) == 0)
}

// item splits the first item off a list.
func item(list []byte, most int) (item, rest []byte) {
	require(len(list) >= 2)
	length := int(binary.BigEndian.Uint16(list))
	require(length > 0 && length <= most && 2+length <= len(list))
	return list[2 : 2+length], list[2+length:]
}

func judgeChallenge(d document) { require(len(d.raw) == 1182 && isZero(d.raw[9:])) }
func judgeResponse(d document) {
	require(len(d.raw) == 16 && isClock(binary.BigEndian.Uint64(d.raw[8:])))
}

// A time in milliseconds that is from 1970 on and before the year 10000.
func isClock(millis uint64) bool { return millis >= 1 && millis <= 253_402_300_799_000 }

// Sections 3.5, 3.6 and 3.8.

func judgeRecord(d document) {
	require(len(d.raw) <= 800)
	fields := openSigned(d, "secgossip/1 node record")
	leaving, leaves := fields.take(6)
	name, sequence := fields.text(1), fields.uint(2)
	boot, endpoints, credential := fields.bytes(3), fields.array(4), fields.bytes(5)
	require(len(fields) == 0)

	require(len(name) >= 1 && len(name) <= 63 && sequence >= 1 && sequence < 1<<63)
	require(len(boot) == 16 && !isZero(boot) && len(credential) >= 1 && len(credential) <= 448)
	require(!leaves || leaving == true)
	require(len(endpoints) >= 1 && len(endpoints) <= 8)
	seen := make(map[string]bool)
	loopback := 0
	for _, endpoint := range endpoints {
		raw, ok := endpoint.([]byte)
		require(ok && (len(raw) == 6 || len(raw) == 18) && !seen[string(raw)])
		seen[string(raw)] = true
		addr, _ := netip.AddrFromSlice(raw[:len(raw)-2])
		require(!addr.IsUnspecified() && !addr.IsMulticast() && !addr.Is4In6())
		require(addr != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && !isZero(raw[len(raw)-2:]))
		if addr.IsLoopback() {
			loopback++
		}
	}
	require(loopback == 0 || loopback == len(endpoints))
}

func judgeStatement(d document) {
	require(len(d.raw) <= 512)
	fields := openSigned(d, "secgossip/1 epoch")
	revoked, revokes := fields.take(8)
	named, names := fields.take(9)
	action, number := fields.uint(1), fields.uint(2)
	previous, commitment := fields.bytes(3), fields.bytes(4)
	keeper, when, reason := fields.text(5), fields.uint(6), fields.text(7)
	require(len(fields) == 0)

	require(action >= 1 && action <= 3 && number >= 1)
	require(len(previous) == 32 && isZero(previous) == (number == 1))
	require(len(commitment) == 32 && !isZero(commitment))
	require(len(keeper) >= 1 && len(keeper) <= 63 && when > 0 && len(reason) >= 1 && len(reason) <= 64)
	if revokes {
		digest, ok := revoked.([]byte)
		require(ok && len(digest) == 16 && !isZero(digest) && action == 1)
	}
	if names {
		list, ok := named.([]any)
		require(ok && revokes && len(list) >= 1 && len(list) <= 6)
		var last []byte
		for _, entry := range list {
			raw, ok := entry.([]byte)
			require(ok && len(raw) == 24 && bytes.Compare(last, raw[:16]) < 0)
			when := binary.BigEndian.Uint64(raw[16:])
			require(when > 0 && when <= 253402300799000)
			last = raw[:16]
		}
	}
}

func judgeRevocation(d document) {
	require(len(d.raw) <= 448)
	fields := openSigned(d, "secgossip/1 revocation")
	verb, kind, name, key := fields.uint(1), fields.uint(2), fields.text(3), fields.bytes(4)
	before, keeper, issued, reason := fields.uint(5), fields.text(6), fields.uint(7), fields.text(8)
	require(len(fields) == 0)

	const last = 253402300799000
	require(verb >= 1 && verb <= 3 && (kind == 1 || kind == 2) && len(key) == 32)
	require(len(name) >= 1 && len(name) <= 63 && len(keeper) >= 1 && len(keeper) <= 63)
	require(before > 0 && before <= last && issued > 0 && issued <= last && (verb == 2) == (before == last))
	require(len(reason) >= 1 && len(reason) <= 64)
}

// openSigned is section 3.3: the one shape, and the signature.
func openSigned(d document, label string) fields {
	key := ed25519.PublicKey(d.bytes("public key"))
	keyID := sha256.Sum256(key)
	protected := append([]byte{0xa2, 0x01, 0x27, 0x04, 0x50}, keyID[:16]...)

	start := append([]byte{0xd2, 0x84, 0x55}, protected...)
	start = append(start, 0xa0)
	require(bytes.HasPrefix(d.raw, start))
	r := &reader{rest: d.raw[len(start):]}
	payload, ok := r.value().([]byte)
	require(ok)
	require(len(r.rest) == 66 && r.rest[0] == 0x58 && r.rest[1] == 0x40)
	signature := r.rest[2:]

	signed := append([]byte{0x84, 0x6a}, "Signature1"...)
	signed = append(append(signed, 0x55), protected...)
	signed = appendBytes(signed, append([]byte(label+"\x00"), d.bytes("cluster")...))
	signed = appendBytes(signed, payload)
	require(ed25519.Verify(key, signed, signature))
	return readFields(payload)
}

func appendBytes(dst, b []byte) []byte {
	switch n := len(b); {
	case n < 24:
		dst = append(dst, 0x40+byte(n))
	case n < 256:
		dst = append(dst, 0x58, byte(n))
	default:
		dst = append(dst, 0x59, byte(n>>8), byte(n))
	}
	return append(dst, b...)
}

// Section 7.1.

func judgeKnock(d document) {
	require(len(d.raw) == 32)
	mac := hmac.New(sha256.New, d.bytes("knock secret"))
	mac.Write([]byte("secgossip/1 knock"))
	mac.Write(d.bytes("cluster"))
	mac.Write(d.raw[:16])
	mac.Write(d.bytes("target"))
	require(hmac.Equal(mac.Sum(nil)[:16], d.raw[16:]))

	now, err := strconv.ParseInt(d.fields["now in ms"], 10, 64)
	if err != nil {
		panic(err)
	}
	apart := now - int64(binary.BigEndian.Uint64(d.raw))
	require(apart >= -120_000 && apart <= 120_000)
}

// Sections 7.3 and 7.4.

func judgeFrame(d document) {
	require(len(d.raw) >= 5 && d.raw[0] >= 1 && d.raw[0] <= 11)
	most := []uint32{0, 872, 3_284_992, 65_664, 32_896, 40, 32, 32, 129, 1183, 0, 921_600}[d.raw[0]]
	length := binary.BigEndian.Uint32(d.raw[1:])
	require(length <= most && int(length) == len(d.raw)-5)
}

func judgeHello(d document) {
	require(len(d.raw) <= 872)
	fields := readFields(d.raw)
	purpose, record, digest := fields.uint(1), fields.bytes(2), fields.bytes(3)
	highest, primary, millis := fields.uint(4), fields.uint(5), fields.uint(6)
	require(len(fields) == 0)
	require(purpose >= 1 && purpose <= 6 && len(record) >= 1 && len(record) <= 800)
	require(len(digest) == 32 && primary <= highest && isClock(millis))
}

func judgeSecretRequest(d document) { require(len(d.raw) == 40 && !isZero(d.raw[:8])) }

func judgeAck(d document) {
	require(len(d.raw) == 32)
	lowest, highest, primary := d.raw[:8], d.raw[8:16], d.raw[16:24]
	require(bytes.Compare(lowest, highest) <= 0 && bytes.Compare(primary, highest) <= 0)
	require(bytes.Compare(lowest, primary) <= 0 || bytes.Equal(primary, make([]byte, 8)))
}

func judgeRefusal(d document) {
	require(len(d.raw) >= 1 && len(d.raw) <= 129 && d.raw[0] >= 1 && d.raw[0] <= 5 && utf8.Valid(d.raw[1:]))
}

func judgeCarried(d document) {
	require(len(d.raw) >= 1 && len(d.raw) <= 1183 && d.raw[0] >= 1 && d.raw[0] <= 8)
}

// CBOR, as much of it as section 1 allows.

type reader struct{ rest []byte }

func (r *reader) next(n uint64) []byte {
	require(n <= uint64(len(r.rest)))
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

// head reads a kind and a number in its shortest form.
func (r *reader) head() (kind byte, n uint64) {
	first := r.next(1)[0]
	kind, n = first>>5, uint64(first&31)
	if n < 24 {
		return kind, n
	}
	require(n <= 27)
	size := uint64(1) << (n - 24)
	long := r.next(size)
	n = binary.BigEndian.Uint64(append(make([]byte, 8-size), long...))
	require(n >= 24 && (size == 1 || n >= 1<<(size*4)))
	return kind, n
}

func (r *reader) value() any {
	kind, n := r.head()
	switch kind {
	case 0:
		return n
	case 2:
		return r.next(n)
	case 3:
		text := r.next(n)
		require(utf8.Valid(text))
		return string(text)
	case 4:
		var list []any
		for range n {
			list = append(list, r.value())
		}
		return list
	case 7:
		require(n == 21) // true
		return true
	}
	panic(errRefused)
}

// fields is a map with small keys. Taking a field removes it.
type fields map[uint64]any

func readFields(raw []byte) fields {
	r := &reader{rest: raw}
	kind, count := r.head()
	require(kind == 5)
	all := make(fields)
	var last uint64
	for range count {
		kind, key := r.head()
		require(kind == 0 && key > last && key < 24)
		last, all[key] = key, r.value()
	}
	require(len(r.rest) == 0)
	return all
}

func (f fields) take(key uint64) (any, bool) {
	value, ok := f[key]
	delete(f, key)
	return value, ok
}

func field[T any](f fields, key uint64) T {
	value, _ := f.take(key)
	typed, ok := value.(T)
	require(ok)
	return typed
}

func (f fields) uint(key uint64) uint64  { return field[uint64](f, key) }
func (f fields) bytes(key uint64) []byte { return field[[]byte](f, key) }
func (f fields) text(key uint64) string  { return field[string](f, key) }
func (f fields) array(key uint64) []any  { return field[[]any](f, key) }

func isZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
