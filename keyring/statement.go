package keyring

import (
	"bytes"
	"fmt"
	"slices"
)

// SetStatement replaces what is kept with epoch n, at most MaxStatement bytes:
// keepers say more about an epoch as its life goes on. The errors are
// ErrUnknownEpoch, ErrSize and ErrDestroyed.
func (k *Keyring) SetStatement(n uint64, statement []byte) error {
	k.change.Lock()
	defer k.change.Unlock()
	if k.closed {
		return ErrDestroyed
	}
	if len(statement) > MaxStatement {
		return fmt.Errorf("epoch %d: a statement of %d bytes: %w", n, len(statement), ErrSize)
	}
	next := k.state
	next.epochs = slices.Clone(k.epochs)
	for i := range next.epochs {
		if next.epochs[i].Number == n {
			next.epochs[i].Statement = bytes.Clone(statement)
			k.set(next)
			return nil
		}
	}
	return fmt.Errorf("epoch %d: %w", n, ErrUnknownEpoch)
}
