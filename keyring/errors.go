package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// The errors a caller can branch on. The texts that wrap them name the file, the
// cause and, where there is one, the fix; never anything read from the file.
var (
	// ErrDestroyed: the handle was destroyed, or never made.
	ErrDestroyed = errors.New("secret was destroyed")
	// ErrLockedMemory: the operating system locks no more memory for this process.
	ErrLockedMemory = errors.New("no more memory can be locked")
	// ErrSize: a secret, key, statement or plaintext of a size that is not allowed.
	ErrSize = errors.New("size is not allowed")

	// ErrKnown: the keyring already holds this very epoch. Not a failure for
	// whoever pulls epochs from several peers.
	ErrKnown = errors.New("epoch is already held")
	// ErrConflict: the keyring holds another secret under this number.
	ErrConflict = errors.New("epoch number is taken by another secret")
	// ErrFull: the keyring holds MaxEpochs already.
	ErrFull = errors.New("keyring is full")
	// ErrUnknownEpoch: the keyring does not hold this epoch.
	ErrUnknownEpoch = errors.New("epoch is not held")
	// ErrPrimary: the primary epoch cannot be removed.
	ErrPrimary = errors.New("epoch is the primary")
	// ErrInvalidEpoch: number 0, no secret, or a time no file can hold.
	ErrInvalidEpoch = errors.New("epoch is malformed")

	// ErrWrongKey: the passphrase, machine key or age identity does not open the file.
	ErrWrongKey = errors.New("wrong unlock key, or its header is damaged")
	// ErrDamaged: the file is truncated or altered.
	ErrDamaged = errors.New("damaged")
	// ErrForeign: the file is sound but holds something else.
	ErrForeign = errors.New("not what was expected")
	// ErrNewer: the file was made by a newer version.
	ErrNewer = errors.New("made by a newer version")
	// ErrTooLarge: the file is larger than any file of ours.
	ErrTooLarge = errors.New("too large")
	// ErrPermissions: the file is not ours alone. See CheckSecretFile.
	ErrPermissions = errors.New("unsafe file")
	// ErrExists: the file exists, and secrets are never overwritten.
	ErrExists = errors.New("already exists, and is never overwritten")
	// ErrPassphrase: the passphrase or its work factor is too weak.
	ErrPassphrase = errors.New("passphrase is not acceptable")
)

// named puts path before the cause. The operating system's errors carry their
// own unquoted path, sometimes of a temporary file; only their cause is kept.
func named(path string, err error) error {
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	switch {
	case errors.As(err, &pathErr):
		err = pathErr.Err
	case errors.As(err, &linkErr):
		err = linkErr.Err
	}
	return fmt.Errorf("%q: %w", path, err)
}
