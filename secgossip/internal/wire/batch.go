package wire

import "fmt"

// A Batch is a list of items of one kind, each behind its length in two bytes.
// The kind says how many there may be and how long.
type Batch uint8

// The kinds of batches and where they travel.
const (
	BatchEvents     Batch = iota + 1 // payload of PacketEvents and PacketRepair: signed events, each behind its mark
	BatchEpochs                      // payload of PacketEpochs: signed epoch statements, each followed by a credential
	BatchRecords                     // payload of PacketRecords: signed node records
	BatchRoster                      // body of FrameRoster: signed node records
	BatchIssuers                     // body of FrameIssuers: issuers' certificates in DER
	BatchStatements                  // body of FrameEpochs: signed epoch statements, each followed by a credential

	BatchRevocations // payload of PacketRevocations: signed revocations, each followed by a credential
	BatchRevoked     // body of FrameRevocations: signed revocations, each followed by a credential

	BatchQueries  // payload of PacketQueries: signed queries
	BatchReplies  // payload of PacketReplies and PacketRelay: signed replies
	BatchRemovals // payload of PacketRemovals: signed removals

	BatchRepair // body of FrameRepair: signed events, each behind its mark
)

// limits gives the fewest and the most items, the longest item and the most
// bytes in all. A datagram about nothing is not sent; a stream's answer may be
// that there is nothing.
func (b Batch) limits() (fewest, most, item, total int) {
	switch b {
	case BatchEvents:
		return 1, MaxPacketItems, MaxMarkedEvent, MaxPayload
	case BatchRepair:
		return 0, MaxRepairItems, MaxMarkedEvent, MaxRepair
	case BatchRemovals:
		return 1, MaxPacketItems, MaxEventRaw, MaxPayload
	case BatchEpochs:
		return 1, MaxPacketItems, MaxEpochStatement, MaxPayload
	case BatchRecords:
		return 1, MaxPacketItems, MaxRecord, MaxPayload
	case BatchRoster:
		return 0, MaxRecords, MaxRecord, MaxRoster
	case BatchIssuers:
		return 0, MaxIssuers, MaxIssuer, MaxIssuers * (LengthSize + MaxIssuer)
	case BatchRevocations:
		return 1, MaxPacketItems, MaxRevocation, MaxPayload
	case BatchRevoked:
		return 0, 2 * MaxRevocations, MaxRevocation, 2 * MaxRevocations * (LengthSize + MaxRevocation)
	case BatchQueries:
		return 1, MaxPacketItems, MaxQueryRaw, MaxPayload
	case BatchReplies:
		return 1, MaxPacketItems, MaxPacketReply, MaxPayload
	case BatchStatements:
		return 0, MaxStatements, MaxEpochStatement, MaxStatements * (LengthSize + MaxEpochStatement)
	}
	panic("internal error: unknown kind of batch")
}

func (b Batch) String() string {
	switch b {
	case BatchEvents, BatchRepair:
		return "batch of events"
	case BatchEpochs, BatchStatements:
		return "batch of epoch statements"
	case BatchRecords, BatchRoster:
		return "batch of node records"
	case BatchIssuers:
		return "batch of issuers"
	case BatchRevocations, BatchRevoked:
		return "batch of revocations"
	case BatchQueries:
		return "batch of queries"
	case BatchReplies:
		return "batch of replies"
	case BatchRemovals:
		return "batch of removals"
	}
	return fmt.Sprintf("batch of kind %d", uint8(b))
}

// Append appends items as a batch of this kind. The error is ErrTooLarge when
// there are too many or too long ones.
func (b Batch) Append(dst []byte, items [][]byte) ([]byte, error) {
	fewest, most, longest, total := b.limits()
	if len(items) < fewest {
		return dst, fmt.Errorf("%v: nothing in it", b)
	}
	if len(items) > most {
		return dst, fmt.Errorf("%v: %d items, at most %d: %w", b, len(items), most, ErrTooLarge)
	}
	out := dst
	for _, item := range items {
		var err error
		if out, err = appendItem(out, item, longest); err != nil {
			return dst, fmt.Errorf("%v: %w", b, err)
		}
	}
	if size := len(out) - len(dst); size > total {
		return dst, fmt.Errorf("%v: %d bytes, at most %d: %w", b, size, total, ErrTooLarge)
	}
	return out, nil
}

// Parse reads a batch of this kind. The items share the memory of body. They are
// counted before anything is allocated.
func (b Batch) Parse(body []byte) ([][]byte, error) {
	fewest, most, longest, total := b.limits()
	if len(body) > total {
		return nil, fmt.Errorf("%v: %d bytes, at most %d: %w", b, len(body), total, ErrTooLarge)
	}
	count := 0
	for rest := body; len(rest) > 0; count++ {
		var err error
		if _, rest, err = nextItem(rest, longest); err != nil {
			return nil, fmt.Errorf("%v: %w", b, err)
		}
	}
	if count < fewest {
		return nil, fmt.Errorf("%v: nothing in it", b)
	}
	if count > most {
		return nil, fmt.Errorf("%v: %d items, at most %d: %w", b, count, most, ErrTooLarge)
	}
	items := make([][]byte, count)
	for i := range items {
		items[i], body, _ = nextItem(body, longest) // the loop above saw no error
	}
	return items, nil
}
