package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"filippo.io/age"
	"github.com/awnumar/memguard"
)

// scrypt's work factors are powers of two. 15 takes 0.09 s and 32 MiB, the
// default 18 takes 0.9 s and 256 MiB, 20 takes 4 s and 1 GiB: more is not
// accepted from a file either, for whoever could write one could stop us with
// it.
const (
	minWorkFactor     = 15
	DefaultWorkFactor = 18
	maxWorkFactor     = 20

	// MinPassphrase is the least number of characters in a passphrase.
	MinPassphrase = 8
)

// Locker seals and opens secret files, all of which are binary age files. It is
// safe for concurrent use. It prints as its kind and, for a machine's key or an
// age identity, a fingerprint of the public part.
type Locker struct {
	nameplate
	memory     locked        // the passphrase, or the text of the age identity
	public     age.Recipient // seals for the identity; nil for a passphrase
	workFactor int           // of a passphrase
}

// PassphraseLocker seals with a passphrase of at least MinPassphrase characters,
// stretched by scrypt with a cost of 2^workFactor: 15 to 20, or 0 for
// DefaultWorkFactor. It opens files of any work factor up to 20. The passphrase
// is copied and stays the caller's to wipe, and is taken as it is: cut the line
// end of a file off before. The errors are ErrPassphrase and ErrLockedMemory.
func PassphraseLocker(passphrase []byte, workFactor int) (*Locker, error) {
	if workFactor == 0 {
		workFactor = DefaultWorkFactor
	}
	if workFactor < minWorkFactor || workFactor > maxWorkFactor {
		return nil, fmt.Errorf("%w: its work factor must be %d to %d, not %d",
			ErrPassphrase, minWorkFactor, maxWorkFactor, workFactor)
	}
	if utf8.RuneCount(passphrase) < MinPassphrase {
		return nil, fmt.Errorf("%w: it needs at least %d characters", ErrPassphrase, MinPassphrase)
	}
	memory, err := lockedCopy(passphrase)
	if err != nil {
		return nil, err
	}
	return &Locker{nameplate: nameplate{"passphrase"}, memory: memory, workFactor: workFactor}, nil
}

// Seal writes plaintext, 1 byte to 64 KiB, to w as a binary age file. The
// plaintext stays the caller's to wipe. The errors are ErrSize, ErrDestroyed, or
// the writer's.
func (l *Locker) Seal(w io.Writer, plaintext []byte) error {
	sealed, err := l.seal(plaintext)
	if err != nil {
		return err
	}
	_, err = w.Write(sealed)
	return err
}

// Open returns what a sealed file holds, in locked, writable memory that the
// caller destroys. It never returns a part. Beware of printing the buffer:
// memguard's print their contents. The errors are ErrWrongKey, ErrDamaged,
// ErrForeign, ErrNewer, ErrTooLarge, ErrDestroyed, ErrLockedMemory, or the
// reader's.
func (l *Locker) Open(r io.Reader) (*memguard.LockedBuffer, error) {
	sealed, err := io.ReadAll(io.LimitReader(r, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(sealed) > maxFileSize {
		return nil, ErrTooLarge
	}
	plaintext, err := l.open(sealed)
	if err != nil {
		return nil, err
	}
	return plaintext.buffer, nil
}

// WriteFile writes plaintext, sealed, to path: 0600, complete, and synced to
// disk, or not at all. The errors are ErrExists, those of Seal, and the
// operating system's.
func (l *Locker) WriteFile(path string, plaintext []byte) error {
	sealed, err := l.seal(plaintext)
	if err != nil {
		return err
	}
	return writeNew(path, sealed)
}

// ReadFile returns what the sealed file at path holds. The errors name the path;
// they are those of CheckSecretFile and of Open.
func (l *Locker) ReadFile(path string) (*memguard.LockedBuffer, error) {
	sealed, err := readFile(path)
	if err != nil {
		return nil, err
	}
	plaintext, err := l.open(sealed)
	if err != nil {
		return nil, named(path, err)
	}
	return plaintext.buffer, nil
}

// Destroy wipes the passphrase or the age identity. With an identity's public
// part a locker can still seal.
func (l *Locker) Destroy() {
	if l != nil {
		l.memory.destroy()
	}
}

// SealOnly wipes what opens files and is not needed to seal them: the secret part
// of an age identity. A passphrase does both, and stays until Destroy.
func (l *Locker) SealOnly() {
	if l.public != nil {
		l.memory.destroy()
	}
}

func (l *Locker) seal(plaintext []byte) (sealed []byte, err error) {
	erasing(func() {
		var recipient age.Recipient
		if recipient, err = l.recipient(); err == nil {
			sealed, err = sealAge(recipient, plaintext)
		}
	})
	// What is allocated while erasing is erased once it is garbage, and costs more
	// to keep. The sealed bytes are no secret.
	return bytes.Clone(sealed), err
}

func (l *Locker) open(sealed []byte) (plaintext locked, err error) {
	erasing(func() {
		var identity age.Identity
		if identity, err = l.identity(); err == nil {
			plaintext, err = openAge(identity, sealed)
		}
	})
	if errors.Is(err, ErrWrongKey) {
		err = fmt.Errorf("it does not open with the %s: %w", l, err)
	}
	return plaintext, err
}

func (l *Locker) recipient() (age.Recipient, error) {
	if l.public != nil {
		return l.public, nil
	}
	var recipient *age.ScryptRecipient
	err := l.memory.use(func(raw []byte) (err error) {
		if recipient, err = age.NewScryptRecipient(string(raw)); err == nil {
			recipient.SetWorkFactor(l.workFactor)
		}
		return err
	})
	return recipient, err
}

// identity parses the secret late, so that age's form of it is short-lived.
func (l *Locker) identity() (identity age.Identity, err error) {
	err = l.memory.use(func(raw []byte) error {
		if l.workFactor == 0 {
			identity, _, err = parseIdentity(string(raw))
			return err
		}
		scrypt, err := age.NewScryptIdentity(string(raw))
		if err != nil {
			return err
		}
		scrypt.SetMaxWorkFactor(maxWorkFactor)
		identity = scrypt
		return nil
	})
	return identity, err
}
