package wire

import (
	"errors"
	"fmt"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
)

// Purpose is what a stream was opened for.
type Purpose uint8

// The purposes.
const (
	PurposeGossip  Purpose = 1 // memberlist's own stream follows
	PurposeEpoch   Purpose = 2 // ask for epochs, or announce one
	PurposeCarrier Purpose = 3 // carry packets while UDP is blocked
	PurposePayload Purpose = 4 // ask for a payload that no datagram holds
	PurposeReply   Purpose = 5 // a reply that no datagram holds
	PurposeRepair  Purpose = 6 // bring each other the events that one of us lacks
)

func (p Purpose) known() bool {
	return p >= PurposeGossip && p <= PurposeRepair
}

// Repairs reports whether the sync of a stream also brings events.
func (p Purpose) Repairs() bool {
	return p == PurposeGossip || p == PurposeCarrier || p == PurposeRepair
}

// A Hello is the first frame of either side of a stream: who speaks, and what it
// knows, so that the other sends only what is missing. Protocol 7.4.
type Hello struct {
	Purpose Purpose
	Record  []byte    // the speaker's signed node record
	Roster  [32]byte  // digest of the records and issuers it has
	Highest uint64    // the highest epoch it holds; 0 for none
	Primary uint64    // the epoch it seals with; 0 for none
	Time    time.Time // the speaker's clock, in whole milliseconds
}

// helloBody is the CBOR map. It is not signed: it travels inside TLS.
type helloBody struct {
	Purpose uint8    `cbor:"1,keyasint"`
	Record  []byte   `cbor:"2,keyasint"`
	Roster  [32]byte `cbor:"3,keyasint"`
	Highest uint64   `cbor:"4,keyasint"`
	Primary uint64   `cbor:"5,keyasint"`
	Millis  uint64   `cbor:"6,keyasint"` // Unix milliseconds
}

// Append appends the body of a FrameHello to dst.
func (h Hello) Append(dst []byte) ([]byte, error) {
	if err := h.check(); err != nil {
		return dst, fmt.Errorf("hello: %w", err)
	}
	raw, err := cose.Marshal(helloBody{
		Purpose: uint8(h.Purpose), Record: h.Record, Roster: h.Roster, Highest: h.Highest, Primary: h.Primary,
		Millis: uint64(h.Time.UnixMilli()),
	})
	if err != nil {
		return dst, fmt.Errorf("hello: %w", err)
	}
	return append(dst, raw...), nil
}

// ParseHello reads the body of a FrameHello. It keeps nothing of body. The
// record in it is not parsed.
func ParseHello(body []byte) (Hello, error) {
	if len(body) > MaxHello {
		return Hello{}, fmt.Errorf("hello: %d bytes: %w", len(body), ErrTooLarge)
	}
	var b helloBody
	if err := cose.Unmarshal(body, &b); err != nil {
		return Hello{}, fmt.Errorf("hello: %w", err)
	}
	h := Hello{
		Purpose: Purpose(b.Purpose), Record: b.Record, Roster: b.Roster, Highest: b.Highest, Primary: b.Primary,
		Time: fromMillis(b.Millis),
	}
	if err := h.check(); err != nil {
		return Hello{}, fmt.Errorf("hello: %w", err)
	}
	return h, nil
}

func (h Hello) check() error {
	if !h.Purpose.known() {
		return fmt.Errorf("unknown purpose %d", h.Purpose)
	}
	if len(h.Record) == 0 || len(h.Record) > MaxRecord {
		return fmt.Errorf("a record of %d bytes, want 1 to %d", len(h.Record), MaxRecord)
	}
	if h.Primary > h.Highest {
		return errors.New("seals with an epoch it does not know")
	}
	return checkClock(h.Time)
}
