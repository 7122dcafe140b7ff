package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// FrameType says what the body of a frame is. Protocol 7.3.
type FrameType uint8

// The frame types.
const (
	FrameHello         FrameType = 1  // a Hello, the first frame of either side
	FrameRoster        FrameType = 2  // BatchRoster
	FrameIssuers       FrameType = 3  // BatchIssuers
	FrameEpochs        FrameType = 4  // BatchStatements
	FrameSecretRequest FrameType = 5  // a SecretRequest
	FrameSecret        FrameType = 6  // the secret of an epoch, SecretSize bytes
	FrameAck           FrameType = 7  // an Ack: done, and how far the speaker is
	FrameRefusal       FrameType = 8  // a Refusal, the last frame of who sends it
	FramePacket        FrameType = 9  // a Carried packet; only after a sync for PurposeCarrier
	FrameAlive         FrameType = 10 // nothing in it: packets arrive; only there as well
	FrameRevocations   FrameType = 11 // BatchRevoked

	FrameReply FrameType = 16 // a signed reply; only after a sync for PurposeReply
	FrameTaken FrameType = 17 // nothing in it: the reply has arrived; only there as well

	FramePayloadRequest FrameType = 18 // the digest of a payload; only after a sync for PurposePayload
	FramePayload        FrameType = 19 // that payload; only there as well

	FrameTally  FrameType = 22 // a Tally of all origins; only in a sync that repairs
	FrameRepair FrameType = 23 // BatchRepair; only there as well
)

// Why a frame was not read. After either of them the stream is of no more use.
var (
	ErrFrameType = errors.New("unexpected frame")
	ErrFrameSize = errors.New("frame longer than its type allows")
)

// maxBody is the longest body of a frame type; it is negative for unknown types.
func (t FrameType) maxBody() int {
	switch t {
	case FrameHello:
		return MaxHello
	case FrameRoster:
		return MaxRoster
	case FrameIssuers:
		return MaxIssuers * (LengthSize + MaxIssuer)
	case FrameEpochs:
		return MaxStatements * (LengthSize + MaxEpochStatement)
	case FrameSecretRequest:
		return SecretRequestSize
	case FrameSecret:
		return SecretSize
	case FrameAck:
		return AckSize
	case FrameRefusal:
		return 1 + MaxRefusalText
	case FramePacket:
		return MaxCarried
	case FrameAlive:
		return 0
	case FrameReply:
		return MaxReplyRaw
	case FrameTaken:
		return 0
	case FramePayloadRequest:
		return PayloadRequestSize
	case FramePayload:
		return MaxLargePayload
	case FrameTally:
		return MaxTallyBody
	case FrameRepair:
		return MaxRepair
	case FrameRevocations:
		return 2 * MaxRevocations * (LengthSize + MaxRevocation)
	}
	return -1
}

// WriteFrame writes one frame, header and body apart: joining them first would
// copy a secret.
func WriteFrame(w io.Writer, t FrameType, body []byte) error {
	if err := WriteFrameHeader(w, t, len(body)); err != nil || len(body) == 0 {
		return err
	}
	_, err := w.Write(body)
	return err
}

// WriteFrameHeader writes the start of a frame whose body of size bytes the
// caller writes next, such as a secret that leaves its locked memory only there.
func WriteFrameHeader(w io.Writer, t FrameType, size int) error {
	if limit := t.maxBody(); limit < 0 {
		return fmt.Errorf("frame of type %d: %w", t, ErrFrameType)
	} else if size > limit {
		return fmt.Errorf("frame of type %d with %d bytes: %w", t, size, ErrFrameSize)
	}
	header := binary.BigEndian.AppendUint32([]byte{byte(t)}, uint32(size))
	_, err := w.Write(header)
	return err
}

// ReadFrame reads the next frame, which must be of a wanted type. Type and
// length are checked before anything is allocated. The error is io.EOF when the
// other side ended the stream in good order, a Refusal when it sent one and none
// was wanted, otherwise ErrFrameType, ErrFrameSize or what reading gave.
func ReadFrame(r io.Reader, want ...FrameType) (FrameType, []byte, error) {
	return ReadFrameUpTo(r, math.MaxInt32, want...)
}

// ReadFrameUpTo is ReadFrame where no more than so many bytes are expected, whatever
// the type allows. A refusal may be as long as refusals are.
func ReadFrameUpTo(r io.Reader, most int, want ...FrameType) (FrameType, []byte, error) {
	var header [FrameHeaderSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	t, size := FrameType(header[0]), binary.BigEndian.Uint32(header[1:])
	wanted := slices.Contains(want, t)
	limit := t.maxBody()
	if limit < 0 || !wanted && t != FrameRefusal {
		return 0, nil, fmt.Errorf("frame of type %d: %w", t, ErrFrameType)
	}
	if wanted {
		limit = min(limit, most)
	}
	if int64(size) > int64(limit) {
		return 0, nil, fmt.Errorf("frame of type %d with %d bytes: %w", t, size, ErrFrameSize)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		if err == io.EOF { // after a header it is no good order
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	if !wanted {
		refusal, err := ParseRefusal(body)
		if err == nil {
			err = refusal
		}
		return 0, nil, err
	}
	return t, body, nil
}
