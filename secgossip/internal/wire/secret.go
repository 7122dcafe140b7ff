package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A SecretRequest asks for the secret of one epoch. It names the commitment too:
// two keepers may have taken the same number. Protocol 7.5.
type SecretRequest struct {
	Number     uint64
	Commitment [32]byte
}

// Append appends the body of a FrameSecretRequest to dst.
func (q SecretRequest) Append(dst []byte) []byte {
	return append(binary.BigEndian.AppendUint64(dst, q.Number), q.Commitment[:]...)
}

// ParseSecretRequest reads the body of a FrameSecretRequest.
func ParseSecretRequest(body []byte) (SecretRequest, error) {
	if len(body) != SecretRequestSize {
		return SecretRequest{}, fmt.Errorf("secret request: %d bytes, want %d", len(body), SecretRequestSize)
	}
	q := SecretRequest{Number: binary.BigEndian.Uint64(body), Commitment: [32]byte(body[8:])}
	if q.Number == 0 {
		return SecretRequest{}, errors.New("secret request: number is zero")
	}
	return q, nil
}
