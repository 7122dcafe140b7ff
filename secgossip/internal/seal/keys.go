package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// What the keys are derived for.
const (
	doorLabel    = "secgossip/1 door"
	trafficLabel = "secgossip/1 traffic"
)

// sharedSize is the length of an X25519 agreement. It goes before the epoch
// secret without a length of its own and must not vary.
const sharedSize = 32

// An EpochSecret derives keys from the secret of an epoch:
// HKDF-SHA256(prefix || secret, no salt, info). The secret itself stays with it.
type EpochSecret interface {
	Derive(prefix, info []byte, size int) ([]byte, error)
}

// A Party is one end of a conversation.
type Party struct {
	Key  [32]byte            // the node's Ed25519 public key: who it is
	Boot [wire.BootSize]byte // which start of its process this is
}

// doorCipher derives the door of receiver in an epoch. A door is bound to its
// receiver, so that what was sent to one node dies at the door of any other.
func doorCipher(secret EpochSecret, cluster [32]byte, epoch uint64, receiver [32]byte) (cipher.Block, error) {
	info := append([]byte(doorLabel), cluster[:]...)
	info = binary.BigEndian.AppendUint64(info, epoch)
	info = append(info, receiver[:]...)
	key, err := derive(secret, nil, info, doorKeySize)
	if err != nil {
		return nil, fmt.Errorf("deriving a door key: %w", err)
	}
	defer clear(key)
	return aes.NewCipher(key)
}

// trafficCipher derives the key of one direction, and its hint.
func trafficCipher(
	shared []byte, secret EpochSecret, cluster [32]byte, epoch uint64, sender, receiver Party,
) (aead cipher.AEAD, hint [wire.HintSize]byte, err error) {
	if len(shared) != sharedSize {
		return nil, hint, fmt.Errorf("an agreement of %d bytes, want %d", len(shared), sharedSize)
	}
	// Between a node and itself both directions would have one key.
	if sender.Key == receiver.Key {
		return nil, hint, errors.New("sender and receiver are the same node")
	}
	info := append([]byte(trafficLabel), cluster[:]...)
	info = binary.BigEndian.AppendUint64(info, epoch)
	info = append(info, sender.Key[:]...)
	info = append(info, receiver.Key[:]...)
	info = append(info, sender.Boot[:]...)
	info = append(info, receiver.Boot[:]...)
	key, err := derive(secret, shared, info, trafficKeySize+wire.HintSize)
	if err != nil {
		return nil, hint, fmt.Errorf("deriving a traffic key: %w", err)
	}
	defer clear(key)
	block, err := aes.NewCipher(key[:trafficKeySize])
	if err != nil {
		return nil, hint, err
	}
	aead, err = cipher.NewGCM(block)
	return aead, [wire.HintSize]byte(key[trafficKeySize:]), err
}

// Lengths of the derived AES-256 keys.
const (
	doorKeySize    = 32
	trafficKeySize = 32
)

// derive asks secret for a key and trusts nothing about the answer but its bytes:
// a short one would become AES-128 without a word.
func derive(secret EpochSecret, prefix, info []byte, size int) ([]byte, error) {
	key, err := secret.Derive(prefix, info, size)
	if err != nil {
		return nil, err
	}
	if len(key) != size {
		return nil, fmt.Errorf("got %d bytes, want %d", len(key), size)
	}
	return key, nil
}

// nonceSize is that of AES-GCM.
const nonceSize = 12

// putNonce writes the nonce of a counter: 4 zeros, which are there already, and
// the counter.
func putNonce(nonce *[nonceSize]byte, counter uint64) {
	binary.BigEndian.PutUint64(nonce[4:], counter)
}
