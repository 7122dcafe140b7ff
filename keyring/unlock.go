package keyring

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"

	"filippo.io/age"
)

// The ways to come by a Locker: a key of this machine's own, an age identity that
// lies elsewhere, a passphrase in a file, or whichever of these a service manager
// hands over.

const (
	machineComment  = "# secgossip machine key: it opens the sealed files of this host; keep it secret"
	identityPrefix  = "AGE-SECRET-KEY-"
	machinePrefix   = identityPrefix + "PQ-1" // post-quantum: ML-KEM-768 and X25519
	classicPrefix   = identityPrefix + "1"    // X25519
	maxPassphrase   = 1024
	fingerprintKind = "secgossip/1 machine key"

	// fileWorkFactor is that of a passphrase that is read from a file. Nobody types
	// or remembers it, so it can be random, and then stretching adds nothing. The
	// keyring is sealed three times in a rotation: at the default factor that would
	// be 3 s and 256 MiB of an agent each time, with this one 0.3 s and 32 MiB.
	fileWorkFactor = minWorkFactor
)

// NewMachineLocker makes a key for this machine and writes it to path, which
// must not exist. It is a post-quantum age identity in age's own text form. The
// errors are ErrExists, ErrLockedMemory, or the operating system's.
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
	return openUnlock(path, checkSecret, machineLocker)
}

// OpenIdentityLocker reads an age identity that somebody made: post-quantum
// ("age-keygen -pq") or classic X25519 ("age-keygen"). A file is sealed to that one
// alone: age refuses to mix the two kinds. The errors are those of
// OpenMachineLocker.
func OpenIdentityLocker(path string) (*Locker, error) {
	return openUnlock(path, checkSecret, identityLocker)
}

// OpenPassphraseLocker reads a passphrase from a file that holds it on one line.
// It seals with a work factor of 15; make the passphrase long and random. The
// errors are those of CheckSecretFile, ErrPassphrase, ErrDamaged for an empty file,
// ErrTooLarge and ErrLockedMemory.
func OpenPassphraseLocker(path string) (*Locker, error) {
	return openUnlock(path, checkSecret, passphraseFileLocker)
}

// OpenCredentialLocker reads what a service manager hands over: an age identity,
// or else a passphrase. The errors are those of OpenIdentityLocker and
// OpenPassphraseLocker.
func OpenCredentialLocker(path string) (*Locker, error) {
	return openUnlock(path, checkCredential, func(text []byte) (*Locker, error) {
		if holdsIdentity(text) {
			return identityLocker(text)
		}
		return passphraseFileLocker(text)
	})
}

// openUnlock makes a Locker of the file at path, whose text is in locked memory
// meanwhile.
func openUnlock(path string, check rule, make func(text []byte) (*Locker, error)) (*Locker, error) {
	text, err := readLocked(path, check)
	if err != nil {
		return nil, err
	}
	defer text.destroy()
	locker, err := make(text.buffer.Bytes())
	if err != nil {
		return nil, named(path, err)
	}
	return locker, nil
}

// passphraseFileLocker takes text that is a passphrase and the end of its line.
func passphraseFileLocker(text []byte) (*Locker, error) {
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	switch {
	case holdsIdentity(text):
		return nil, fmt.Errorf("%w: the file holds an age identity; name it as one", ErrPassphrase)
	case len(text) > maxPassphrase:
		return nil, fmt.Errorf("%w: it has %d bytes, and %d are allowed", ErrPassphrase, len(text), maxPassphrase)
	case !utf8.Valid(text) || bytes.ContainsFunc(text, unicode.IsControl):
		// Raw random bytes: at the first line end among them all but a few would be cut off.
		return nil, fmt.Errorf("%w: want one line of text", ErrPassphrase)
	}
	return PassphraseLocker(text, fileWorkFactor)
}

// holdsIdentity reports whether a line of text begins as an age identity does.
func holdsIdentity(text []byte) bool {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte(identityPrefix)) {
			return true
		}
	}
	return false
}

// machineLocker takes text with one post-quantum identity among comments.
func machineLocker(text []byte) (*Locker, error) {
	line, err := onlyLine(text)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(line, []byte(machinePrefix)) {
		return nil, fmt.Errorf("%w: it holds no machine key (a post-quantum age identity)", ErrForeign)
	}
	return lockerOf(line, "machine key")
}

// identityLocker takes text with one age identity of either kind among comments.
func identityLocker(text []byte) (*Locker, error) {
	line, err := onlyLine(text)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(line, []byte(machinePrefix)) && !bytes.HasPrefix(line, []byte(classicPrefix)) {
		return nil, fmt.Errorf("%w: it holds no age identity (a line that begins with %s)", ErrForeign, identityPrefix)
	}
	return lockerOf(line, "age identity")
}

// onlyLine is the one line of text that is no comment; nil if there is none.
func onlyLine(text []byte) (line []byte, err error) {
	for candidate := range bytes.Lines(text) {
		candidate = bytes.TrimSpace(candidate)
		if len(candidate) == 0 || candidate[0] == '#' {
			continue
		}
		if line != nil {
			return nil, fmt.Errorf("%w: it holds more than one key", ErrForeign)
		}
		line = candidate
	}
	return line, nil
}

// lockerOf makes a Locker of an age identity, which prints as kind.
func lockerOf(line []byte, kind string) (*Locker, error) {
	memory, err := lockedCopy(line)
	if err != nil {
		return nil, err
	}
	l := &Locker{memory: memory}
	var public fmt.Stringer
	erasing(func() {
		err = memory.use(func(raw []byte) error {
			_, recipient, err := parseIdentity(string(raw))
			l.public, public = recipient, recipient
			return err
		})
	})
	if err != nil {
		memory.destroy()
		return nil, err
	}
	l.text = kind + " " + fingerprint(fingerprintKind, []byte(public.String()))
	return l, nil
}

// recipient is an age recipient that says its public key.
type recipient interface {
	age.Recipient
	fmt.Stringer
}

// parseIdentity reads an age identity. What age says of one that it cannot read
// may quote the key, and is not passed on.
func parseIdentity(line string) (age.Identity, recipient, error) {
	if identity, err := age.ParseHybridIdentity(line); err == nil {
		return identity, identity.Recipient(), nil
	}
	if identity, err := age.ParseX25519Identity(line); err == nil {
		return identity, identity.Recipient(), nil
	}
	return nil, nil, fmt.Errorf("%w: its key does not read", ErrDamaged)
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
