package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// What the keys are derived for.
const (
	doorLabel    = "secgossip/1 door"
	trafficLabel = "secgossip/1 traffic"
	keyLabel     = "secgossip/1 key"
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
func doorCipher(secret EpochSecret, cluster [32]byte, epoch uint64, receiver [32]byte) (door cipher.Block, err error) {
	erasing(func() { door, err = newDoor(secret, cluster, epoch, receiver) })
	return door, err
}

func newDoor(secret EpochSecret, cluster [32]byte, epoch uint64, receiver [32]byte) (cipher.Block, error) {
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

// newChain derives what the keys of one direction come from, and its hint.
func newChain(
	shared []byte, secret EpochSecret, cluster [32]byte, epoch uint64, sender, receiver Party,
) (c chain, hint [wire.HintSize]byte, err error) {
	erasing(func() { c, hint, err = deriveChain(shared, secret, cluster, epoch, sender, receiver) })
	return c, hint, err
}

func deriveChain(
	shared []byte, secret EpochSecret, cluster [32]byte, epoch uint64, sender, receiver Party,
) (c chain, hint [wire.HintSize]byte, err error) {
	if len(shared) != sharedSize {
		return c, hint, fmt.Errorf("an agreement of %d bytes, want %d", len(shared), sharedSize)
	}
	// Between a node and itself both directions would have one key.
	if sender.Key == receiver.Key {
		return c, hint, errors.New("sender and receiver are the same node")
	}
	info := append([]byte(trafficLabel), cluster[:]...)
	info = binary.BigEndian.AppendUint64(info, epoch)
	info = append(info, sender.Key[:]...)
	info = append(info, receiver.Key[:]...)
	info = append(info, sender.Boot[:]...)
	info = append(info, receiver.Boot[:]...)
	out, err := derive(secret, shared, info, chainSize+wire.HintSize)
	if err != nil {
		return c, hint, fmt.Errorf("deriving a traffic secret: %w", err)
	}
	defer clear(out)
	c.secret = (*[chainSize]byte)(bytes.Clone(out[:chainSize]))
	return c, [wire.HintSize]byte(out[chainSize:]), nil
}

// A chain makes the keys of one direction, a generation after another. What it
// holds leads to later keys only: an earlier one cannot be made again.
type chain struct {
	secret *[chainSize]byte // of the next generation; a pointer, so that it is not printed
	made   uint64           // generations so far
}

// generations is how many keys there are for one direction in one epoch.
const generations = wire.StopAfter / wire.RekeyAfter

// generationOf is the generation that seals a counter.
func generationOf(counter uint64) uint64 { return counter / wire.RekeyAfter }

// next makes the key of the next generation: AES-256-GCM from the first half of
// HKDF-Expand(secret; "secgossip/1 key"), 64 bytes. The second half is the secret
// after it.
func (c *chain) next() (key cipher.AEAD, err error) {
	erasing(func() { key, err = c.expand() })
	return key, err
}

func (c *chain) expand() (cipher.AEAD, error) {
	out, err := hkdf.Expand(sha256.New, c.secret[:], keyLabel, trafficKeySize+chainSize)
	if err != nil {
		return nil, fmt.Errorf("deriving a traffic key: %w", err)
	}
	defer clear(out)
	block, err := aes.NewCipher(out[:trafficKeySize])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	copy(c.secret[:], out[trafficKeySize:])
	c.made++
	return aead, nil
}

// Lengths of what is derived.
const (
	doorKeySize    = 32
	trafficKeySize = 32
	chainSize      = 32
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
