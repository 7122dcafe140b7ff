package keyring

import (
	"encoding/binary"
	"fmt"
	"time"
)

// The plaintext of a keyring file is deterministic CBOR (RFC 8949, section
// 4.2.1), in one shape:
//
//	["secgossip keyring", 1,      what this is, version of the format
//	 h'…32 bytes…',               knock secret
//	 7,                           primary epoch, 0 when there is none
//	 [[6, 1790000000,             number; created, Unix seconds, 0 when unknown
//	   h'…', h'…32 bytes…'],      install statement, may be empty; secret
//	  [7, …]]]                    numbers ascending, at most MaxEpochs
//
// It is read and written by hand because both ends are locked memory: a general
// decoder would put every secret into the heap on the way. One encoding exists
// of each keyring; the reader refuses every other.
const (
	imageKind    = "secgossip keyring"
	imageVersion = 1
)

// Limits of a keyring. MaxEpochs: the epoch in use, the one being installed, the
// one being retired, and one for a rotation that was cut short. MaxStatement: a
// statement is about 300 bytes; 4 KiB leave room, and a full keyring then takes
// 17 KiB of the 64 that one sealed chunk holds.
const (
	MaxEpochs    = 4
	MaxStatement = 4096

	// maxCreated is the last second of the year 9999.
	maxCreated = 253402300799

	// The most bytes an image and each of its epochs take besides statements.
	imageOverhead = 1 + 1 + len(imageKind) + 1 + 2 + SecretSize + 9 + 1
	epochOverhead = 1 + 9 + 9 + 3 + 2 + SecretSize
	maxImage      = imageOverhead + MaxEpochs*(epochOverhead+MaxStatement)
	_             = uint(maxPlaintext - maxImage) // a full keyring can be sealed
)

// source gives the bytes of a secret: a *Secret when writing, plain when reading.
type source interface {
	appendTo(dst []byte) ([]byte, error)
}

// plain is a piece of a plaintext in locked memory.
type plain []byte

func (p plain) appendTo(dst []byte) ([]byte, error) { return append(dst, p...), nil }

// image is what a keyring file says.
type image struct {
	knock   source
	primary uint64
	epochs  []imageEpoch
}

type imageEpoch struct {
	number, created uint64
	statement       []byte
	secret          source
}

// bound is how much room append needs at most.
func (i image) bound() int {
	n := imageOverhead
	for _, e := range i.epochs {
		n += epochOverhead + len(e.statement)
	}
	return n
}

// append appends the encoding. The error is that of a secret that is gone.
func (i image) append(dst []byte) ([]byte, error) {
	dst = appendHead(dst, cborArray, 5)
	dst = append(appendHead(dst, cborText, uint64(len(imageKind))), imageKind...)
	dst = appendHead(dst, cborUint, imageVersion)
	dst, err := i.knock.appendTo(appendHead(dst, cborBytes, SecretSize))
	if err != nil {
		return nil, fmt.Errorf("knock secret: %w", err)
	}
	dst = appendHead(dst, cborUint, i.primary)
	dst = appendHead(dst, cborArray, uint64(len(i.epochs)))
	for _, e := range i.epochs {
		dst = appendHead(dst, cborArray, 4)
		dst = appendHead(dst, cborUint, e.number)
		dst = appendHead(dst, cborUint, e.created)
		dst = append(appendHead(dst, cborBytes, uint64(len(e.statement))), e.statement...)
		if dst, err = e.secret.appendTo(appendHead(dst, cborBytes, SecretSize)); err != nil {
			return nil, fmt.Errorf("epoch %d: %w", e.number, err)
		}
	}
	return dst, nil
}

// parseImage reads what append writes. What it returns points into raw. The
// errors are ErrForeign, ErrNewer and ErrDamaged.
func parseImage(raw []byte) (image, error) {
	r := &reader{rest: raw}
	parts := r.head(cborArray)
	kind := r.bytes(cborText, uint64(len(imageKind)))
	if r.bad || string(kind) != imageKind {
		return image{}, fmt.Errorf("%w: it is not a keyring", ErrForeign)
	}
	switch version := r.head(cborUint); {
	case r.bad || version == 0:
		return image{}, malformed("version")
	case version > imageVersion:
		return image{}, fmt.Errorf("%w: format %d, and this version reads %d", ErrNewer, version, imageVersion)
	case parts != 5:
		return image{}, malformed("shape")
	}
	i := image{knock: r.secret(), primary: r.head(cborUint)}
	count := r.head(cborArray)
	if r.bad || count > MaxEpochs {
		return image{}, malformed("list of epochs")
	}
	primaryHeld := i.primary == 0
	var last uint64
	for range count {
		if r.head(cborArray) != 4 {
			return image{}, malformed("epoch")
		}
		e := imageEpoch{number: r.head(cborUint), created: r.head(cborUint)}
		e.statement = r.bytes(cborBytes, MaxStatement)
		e.secret = r.secret()
		if r.bad || e.number <= last || e.created > maxCreated {
			return image{}, malformed("epoch")
		}
		last = e.number
		primaryHeld = primaryHeld || e.number == i.primary
		i.epochs = append(i.epochs, e)
	}
	if !primaryHeld || len(r.rest) != 0 {
		return image{}, malformed("end")
	}
	return i, nil
}

func malformed(part string) error {
	return fmt.Errorf("%w: its %s does not read", ErrDamaged, part)
}

// CBOR major types (RFC 8949, section 3.1).
const (
	cborUint  = 0
	cborBytes = 2
	cborText  = 3
	cborArray = 4
)

// appendHead appends a data item's head with the shortest argument.
func appendHead(dst []byte, major byte, argument uint64) []byte {
	switch major <<= 5; {
	case argument < 24:
		return append(dst, major|byte(argument))
	case argument < 1<<8:
		return append(dst, major|24, byte(argument))
	case argument < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(argument))
	case argument < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(argument))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), argument)
}

// reader takes an image apart. After the first item that is not as expected, bad
// is set and all that follows is zero.
type reader struct {
	rest []byte
	bad  bool
}

// head returns the argument of the next data item, which must be of this major
// type and in the shortest form.
func (r *reader) head(major byte) uint64 {
	if r.bad || len(r.rest) == 0 || r.rest[0]>>5 != major {
		r.bad = true
		return 0
	}
	info := r.rest[0] & 31
	if info < 24 {
		r.rest = r.rest[1:]
		return uint64(info)
	}
	size := 1 << (info - 24) // 24 to 27 mean 1, 2, 4 or 8 bytes; above is not for us
	if info > 27 || len(r.rest) < 1+size {
		r.bad = true
		return 0
	}
	var argument uint64
	for _, b := range r.rest[1 : 1+size] {
		argument = argument<<8 | uint64(b)
	}
	r.rest = r.rest[1+size:]
	// Shortest form: it would not have fitted the size below. 1 byte starts at 24.
	if size == 1 && argument < 24 || size > 1 && argument>>(size*4) == 0 {
		r.bad = true
		return 0
	}
	return argument
}

// bytes returns the content of the next byte or text string, of at most limit.
func (r *reader) bytes(major byte, limit uint64) []byte {
	size := r.head(major)
	if r.bad || size > limit || size > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	content := r.rest[:size:size]
	r.rest = r.rest[size:]
	return content
}

func (r *reader) secret() plain {
	content := r.bytes(cborBytes, SecretSize)
	if len(content) != SecretSize {
		r.bad = true
	}
	return content
}

// unixOf is a creation time as an image has it; the zero time is 0.
func unixOf(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.Unix())
}

func timeOf(created uint64) time.Time {
	if created == 0 {
		return time.Time{}
	}
	return time.Unix(int64(created), 0).UTC()
}
