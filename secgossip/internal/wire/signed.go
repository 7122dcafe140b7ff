package wire

import (
	"fmt"

	"github.com/secgossip/secgossip/internal/cose"
)

// parseSigned reads a COSE_Sign1 of at most limit bytes, and its payload into
// body. It verifies nothing and keeps nothing of raw: a record lives as long as
// its member, and must not hold on to the buffer of the stream it came from.
func parseSigned(raw []byte, limit int, body any) (cose.Message, error) {
	if len(raw) > limit {
		return cose.Message{}, fmt.Errorf("%d bytes, at most %d: %w", len(raw), limit, ErrTooLarge)
	}
	message, err := cose.Parse(raw)
	if err != nil {
		return cose.Message{}, err
	}
	return message, cose.Unmarshal(message.Payload, body)
}

// checkName checks that a name has a possible length. Whether it is the name of
// the key that signed is for whoever knows the credential.
func checkName(name string) error {
	if len(name) == 0 || len(name) > MaxName {
		return fmt.Errorf("a name of %d bytes, want 1 to %d", len(name), MaxName)
	}
	return nil
}
