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
// safe for concurrent use. It prints as its kind and, for a machine's key, a
// fingerprint of the public part.
type Locker struct {
	nameplate
	memory     locked                  // the passphrase, or the text of the age identity
	machine    age.RecipientWithLabels // nil for a passphrase
	workFactor int
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

// NewMachineLocker makes a key for this machine and writes it to path, which
// must not exist. It is a post-quantum age identity in age's own text form; age
// refuses to mix those with classic ones in one file, so there is no other kind.
// The errors are ErrExists, ErrLockedMemory, or the operating system's.
func NewMachineLocker(path string) (*Locker, error) {
	var text []byte
	var err error
	erasing(func() {
		var identity *age.HybridIdentity
		if identity, err = age.GenerateHybridIdentity(); err == nil {
			text = fmt.Appendf(nil, "%s\n# public key: %s\n%s\n", machineComment, identity.Recipient(), identity)
		}
	})
	if err != nil {
		return nil, err
	}
	defer wipe(text)
	locker, err := machineLocker(text)
	if err != nil {
		return nil, err
	}
	if err := writeNew(path, text); err != nil {
		locker.Destroy()
		return nil, err
	}
	return locker, nil
}

// OpenMachineLocker reads what NewMachineLocker or "age-keygen -pq" wrote to
// path. The errors are those of CheckSecretFile, ErrForeign, ErrDamaged,
// ErrTooLarge and ErrLockedMemory.
func OpenMachineLocker(path string) (*Locker, error) {
	text, err := readLocked(path)
	if err != nil {
		return nil, err
	}
	defer text.destroy()
	locker, err := machineLocker(text.buffer.Bytes())
	if err != nil {
		return nil, named(path, err)
	}
	return locker, nil
}

const (
	machineComment = "# secgossip machine key: it opens the sealed files of this host; keep it secret"
	machinePrefix  = "AGE-SECRET-KEY-PQ-1"
)

// machineLocker takes text with one identity among comments.
func machineLocker(text []byte) (*Locker, error) {
	var line []byte
	for candidate := range bytes.Lines(text) {
		candidate = bytes.TrimSpace(candidate)
		if len(candidate) == 0 || candidate[0] == '#' {
			continue
		}
		if line != nil {
			return nil, fmt.Errorf("%w: it holds more than one machine key", ErrForeign)
		}
		line = candidate
	}
	if !bytes.HasPrefix(line, []byte(machinePrefix)) {
		return nil, fmt.Errorf("%w: it holds no machine key (a post-quantum age identity)", ErrForeign)
	}
	memory, err := lockedCopy(line)
	if err != nil {
		return nil, err
	}
	l := &Locker{memory: memory}
	identity, err := l.identity()
	if err != nil {
		memory.destroy()
		return nil, err
	}
	recipient := identity.(*age.HybridIdentity).Recipient()
	l.machine = recipient
	l.text = "machine key " + fingerprint("secgossip/1 machine key", []byte(recipient.String()))
	return l, nil
}

func lockedCopy(raw []byte) (locked, error) {
	memory, err := newLocked(len(raw))
	if err != nil {
		return locked{}, err
	}
	return memory, memory.fill(func(dst []byte) error {
		copy(dst, raw)
		return nil
	})
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

// Destroy wipes the passphrase or machine key. A machine's locker can still
// seal: that takes the public part only.
func (l *Locker) Destroy() {
	if l != nil {
		l.memory.destroy()
	}
}

func (l *Locker) seal(plaintext []byte) (sealed []byte, err error) {
	erasing(func() {
		var recipient age.RecipientWithLabels
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

func (l *Locker) recipient() (age.RecipientWithLabels, error) {
	if l.machine != nil {
		return l.machine, nil
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
		if l.workFactor != 0 {
			scrypt, err := age.NewScryptIdentity(string(raw))
			if err != nil {
				return err
			}
			scrypt.SetMaxWorkFactor(maxWorkFactor)
			identity = scrypt
			return nil
		}
		machine, err := age.ParseHybridIdentity(string(raw))
		if err != nil { // age's text may quote the key
			return fmt.Errorf("%w: its machine key does not read", ErrDamaged)
		}
		identity = machine
		return nil
	})
	return identity, err
}
