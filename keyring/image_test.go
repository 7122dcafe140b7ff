package keyring

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

func plainOf(fill byte) plain { return bytes.Repeat([]byte{fill}, SecretSize) }

func testImage() image {
	return image{knock: plainOf(0xf0), primary: 7, epochs: []imageEpoch{
		{number: 6, created: 1_790_000_000, statement: []byte("signed"), secret: plainOf(6)},
		{number: 7, created: 0, statement: nil, secret: plainOf(7)},
	}}
}

func encoded(t testing.TB, i image) []byte {
	t.Helper()
	return must(i.append(nil))(t)
}

// The format is a promise to the files that exist: these bytes never change.
func TestImageHasOneEncoding(t *testing.T) {
	want := "85" + "71" + hex.EncodeToString([]byte("secgossip keyring")) + "01" +
		"5820" + strings.Repeat("f0", 32) + "07" +
		"82" +
		"84" + "06" + "1a6ab13b80" + "46" + hex.EncodeToString([]byte("signed")) + "5820" + strings.Repeat("06", 32) +
		"84" + "07" + "00" + "40" + "5820" + strings.Repeat("07", 32)
	raw := encoded(t, testImage())
	if got := hex.EncodeToString(raw); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if again := encoded(t, must(parseImage(raw))(t)); !bytes.Equal(again, raw) {
		t.Errorf("read and written again: got %x, want %x", again, raw)
	}
}

// A general CBOR library must read what we write, or "deterministic CBOR" is
// only a name.
func TestImageIsDeterministicCBOR(t *testing.T) {
	encoder := must(cbor.CoreDetEncOptions().EncMode())(t)
	for name, i := range map[string]image{"two epochs": testImage(), "none": {knock: plainOf(1)}, "full": fullImage()} {
		raw := encoded(t, i)
		var value any
		if err := cbor.Unmarshal(raw, &value); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if again := must(encoder.Marshal(value))(t); !bytes.Equal(raw, again) {
			t.Errorf("%s: the library writes %x, we wrote %x", name, again, raw)
		}
	}
}

// The largest of everything.
func fullImage() image {
	i := image{knock: plainOf(1), primary: math.MaxUint64}
	for n := range uint64(MaxEpochs) {
		i.epochs = append(i.epochs, imageEpoch{
			math.MaxUint64 - MaxEpochs + 1 + n, maxCreated, make([]byte, MaxStatement), plainOf(byte(n)),
		})
	}
	return i
}

// Were the bound too low, append would move the secrets out of locked memory.
func TestImageFitsItsBound(t *testing.T) {
	for name, i := range map[string]image{"two epochs": testImage(), "none": {knock: plainOf(1)}, "full": fullImage()} {
		if got, bound := len(encoded(t, i)), i.bound(); got > bound {
			t.Errorf("%s: %d bytes, bound %d", name, got, bound)
		}
	}
	if bound := fullImage().bound(); bound != maxImage || bound > maxPlaintext {
		t.Errorf("full: bound %d, want %d and at most %d", bound, maxImage, maxPlaintext)
	}
}

func TestEveryTruncationAndExtensionOfAnImageIsRefused(t *testing.T) {
	raw := encoded(t, testImage())
	for n := range raw {
		if _, err := parseImage(raw[:n]); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) {
			t.Errorf("%d of %d bytes: got %v", n, len(raw), err)
		}
	}
	if _, err := parseImage(append(bytes.Clone(raw), 0)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a trailing byte: got %v, want ErrDamaged", err)
	}
}

func TestMalformedImagesAreRefused(t *testing.T) {
	edit := func(f func(i *image)) []byte {
		i := testImage()
		f(&i)
		return encoded(t, i)
	}
	good := encoded(t, testImage())
	replace := func(old, new string) []byte {
		if bytes.Count(good, []byte(old)) != 1 {
			t.Fatalf("%x is in the image %d times", old, bytes.Count(good, []byte(old)))
		}
		return bytes.Replace(good, []byte(old), []byte(new), 1)
	}
	knock := string(plainOf(0xf0))
	for _, test := range []struct {
		name string
		raw  []byte
		want error
	}{
		{"nothing", nil, ErrForeign},
		{"text", []byte("hello"), ErrForeign},
		{"a key", []byte(rfc8410Key), ErrForeign},
		{"another kind", replace("secgossip keyring", "secgossip keyrinG"), ErrForeign},
		{"another kind, longer", replace("\x71secgossip keyring", "\x72secgossip keyring!"), ErrForeign},
		{"kind as bytes", replace("\x71secgossip", "\x51secgossip"), ErrForeign},
		{"a map", append([]byte{0xa5}, good[1:]...), ErrForeign},
		{"indefinite array", append([]byte{0x9f}, good[1:]...), ErrForeign},
		{"tagged", append([]byte{0xd2}, good...), ErrForeign},
		{"version 2", replace("keyring\x01", "keyring\x02"), ErrNewer},
		{"version 2 of another shape", append([]byte{0x86}, replace("keyring\x01", "keyring\x02")[1:]...), ErrNewer},
		{"version 1000", replace("keyring\x01", "keyring\x19\x03\xe8"), ErrNewer},
		{"version 0", replace("keyring\x01", "keyring\x00"), ErrDamaged},
		{"version -1", replace("keyring\x01", "keyring\x20"), ErrDamaged},
		{"version 1, longer integer", replace("keyring\x01", "keyring\x18\x01"), ErrDamaged},
		{"six parts", append(append([]byte{0x86}, good[1:]...), 0), ErrDamaged},
		{"four parts", append([]byte{0x84}, good[1:]...), ErrDamaged},
		{"short knock", replace("\x58\x20"+knock, "\x58\x1f"+knock[1:]), ErrDamaged},
		{"long knock", replace("\x58\x20"+knock, "\x58\x21"+knock+"x"), ErrDamaged},
		{"knock with a longer length", replace("\x58\x20"+knock, "\x59\x00\x20"+knock), ErrDamaged},
		{"knock as text", replace("\x58\x20"+knock, "\x78\x20"+knock), ErrDamaged},
		{"no knock", replace("\x58\x20"+knock, "\xf6"), ErrDamaged},
		{"length beyond the end", replace("\x58\x20"+knock, "\x5b\xff\xff\xff\xff\xff\xff\xff\xff"+knock), ErrDamaged},
		{"reserved length", replace("\x58\x20"+knock, "\x5c"+knock), ErrDamaged},
		{"indefinite length", replace("\x58\x20"+knock, "\x5f"+knock+"\xff"), ErrDamaged},
		{"primary not held", edit(func(i *image) { i.primary = 5 }), ErrDamaged},
		{"primary without epochs", edit(func(i *image) { i.epochs = nil }), ErrDamaged},
		{"epoch 0", edit(func(i *image) { i.epochs[0].number = 0 }), ErrDamaged},
		{"numbers descending", edit(func(i *image) { i.epochs[0].number = 8 }), ErrDamaged},
		{"number twice", edit(func(i *image) { i.epochs[0].number = 7 }), ErrDamaged},
		{"five epochs", edit(func(i *image) {
			for n := range uint64(3) {
				i.epochs = append(i.epochs, imageEpoch{number: 8 + n, secret: plainOf(9)})
			}
		}), ErrDamaged},
		{"many epochs", replace("\x07\x82\x84", "\x07\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x84"), ErrDamaged},
		{"statement too long", edit(func(i *image) { i.epochs[0].statement = make([]byte, MaxStatement+1) }), ErrDamaged},
		{"created after 9999", edit(func(i *image) { i.epochs[0].created = maxCreated + 1 }), ErrDamaged},
		{"created far after", edit(func(i *image) { i.epochs[0].created = math.MaxUint64 }), ErrDamaged},
		{"short secret", edit(func(i *image) { i.epochs[1].secret = plainOf(7)[:31] }), ErrDamaged},
		{"epoch of five parts", replace("\x82\x84\x06", "\x82\x85\x06"), ErrDamaged},
		{"epoch as bytes", replace("\x82\x84\x06", "\x82\x44\x06"), ErrDamaged},
	} {
		if i, err := parseImage(test.raw); !errors.Is(err, test.want) {
			t.Errorf("%s: got %d epochs and %v, want %v", test.name, len(i.epochs), err, test.want)
		}
	}
}

func TestHeadsAreShortest(t *testing.T) {
	for _, n := range []uint64{0, 1, 23, 24, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32, math.MaxUint64} {
		raw := appendHead(nil, cborUint, n)
		if want := must(cbor.Marshal(n))(t); !bytes.Equal(raw, want) {
			t.Errorf("%d: got %x, want %x", n, raw, want)
		}
		r := &reader{rest: raw}
		if got := r.head(cborUint); got != n || r.bad || len(r.rest) != 0 {
			t.Errorf("%d: read back as %d, bad %v, %d bytes left", n, got, r.bad, len(r.rest))
		}
	}
	for _, raw := range []string{"1800", "1817", "190000", "1900ff", "1a0000ffff", "1b00000000ffffffff", "1c", "1d", "1e", "1f", "18", "19ff", "1affffff", "1bffffffffffffff", "20", "40", "f4", ""} {
		r := &reader{rest: must(hex.DecodeString(raw))(t)}
		if got := r.head(cborUint); !r.bad || got != 0 {
			t.Errorf("%s: read as %d", raw, got)
		}
	}
}

func TestTimesSurviveAnImage(t *testing.T) {
	for _, at := range []time.Time{{}, time.Unix(1, 0), testTime, time.Unix(maxCreated, 0)} {
		got := timeOf(unixOf(at))
		if !got.Equal(at.Truncate(time.Second)) || got.Location() != time.UTC {
			t.Errorf("%v: came back as %v", at, got)
		}
	}
}

// What parseImage accepts, append gives back byte for byte.
func FuzzImageReadsAsWritten(f *testing.F) {
	raw := encoded(f, testImage())
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Add(encoded(f, image{knock: plainOf(1)}))
	f.Add(encoded(f, fullImage()))
	f.Fuzz(func(t *testing.T, raw []byte) {
		i, err := parseImage(raw)
		if err != nil {
			return
		}
		if again := encoded(t, i); !bytes.Equal(raw, again) || len(again) > i.bound() {
			t.Errorf("second encoding accepted: %x, written as %x", raw, again)
		}
	})
}
