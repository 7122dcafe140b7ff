package keyring

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Epoch is one generation of the gossip key.
type Epoch struct {
	// Number is at least 1; a higher one is younger.
	Number uint64
	// Created is when a keeper started the epoch, in whole seconds; zero when
	// nobody said.
	Created time.Time
	// Statement is the keeper's signed statement of the epoch, opaque here, at
	// most MaxStatement bytes. The first epoch of a cluster may have none.
	Statement []byte
	// Secret is the epoch's secret. It is shared by all copies of the Epoch, and
	// destroyed when the keyring removes the epoch.
	Secret *Secret
}

// EpochInfo is what may be shown of an epoch.
type EpochInfo struct {
	Number      uint64
	Primary     bool
	Created     time.Time
	Fingerprint string
	Commitment  [32]byte
}

// Keyring is the epochs an agent holds, at most MaxEpochs, and the cluster's
// knock secret. The primary epoch seals; the others still open. It is safe for
// concurrent use. What it holds dies with the process: a File keeps it.
type Keyring struct {
	nameplate
	knock *Secret

	// change is held by whoever changes the keyring, for as long as that takes,
	// which may include writing a file. mu is held for a moment, by readers too.
	// change is locked first.
	change sync.Mutex
	mu     sync.RWMutex
	state
}

// state is what changes in a keyring. The slice is sorted by number and replaced,
// never written to, so that a copy of a state stays as it is.
type state struct {
	epochs  []Epoch
	primary uint64 // 0: none yet
	draft   bool   // secrets are left alone, whatever happens; see File.Update
	closed  bool
}

// New returns a keyring without epochs, and takes over knock, the cluster's knock
// secret.
func New(knock *Secret) *Keyring {
	return &Keyring{nameplate: nameplate{"keyring"}, knock: knock}
}

// Install adds an epoch and takes over its secret. When an error comes back the
// secret is still the caller's. The errors are ErrKnown (this number with this
// secret is held already), ErrConflict (this number with another secret),
// ErrFull, ErrInvalidEpoch, ErrSize (the statement) and ErrDestroyed.
func (k *Keyring) Install(e Epoch) error {
	k.change.Lock()
	defer k.change.Unlock()
	if err := k.checkNew(e); err != nil {
		return err
	}
	if held, ok := k.find(e.Number); ok {
		if held.Secret.Commitment() == e.Secret.Commitment() {
			return fmt.Errorf("epoch %d: %w", e.Number, ErrKnown)
		}
		return fmt.Errorf("epoch %d: %w", e.Number, ErrConflict)
	}
	if len(k.epochs) == MaxEpochs {
		return fmt.Errorf("epoch %d: %w", e.Number, ErrFull)
	}
	k.add(e, k.epochs)
	return nil
}

// Replace puts an epoch in the place of the one of its number, and takes over its
// secret. A primary stays the primary. The secret that was held is wiped as Remove
// does it; in a File, do it in Update. When an error comes back the secret is
// still the caller's. The errors are ErrUnknownEpoch and, but for ErrConflict and
// ErrFull, those of Install.
func (k *Keyring) Replace(e Epoch) error {
	k.change.Lock()
	defer k.change.Unlock()
	if err := k.checkNew(e); err != nil {
		return err
	}
	held, ok := k.find(e.Number)
	switch {
	case !ok:
		return fmt.Errorf("epoch %d: %w", e.Number, ErrUnknownEpoch)
	case held.Secret.Commitment() == e.Secret.Commitment():
		return fmt.Errorf("epoch %d: %w", e.Number, ErrKnown)
	}
	k.add(e, slices.DeleteFunc(slices.Clone(k.epochs), func(e Epoch) bool { return e.Number == held.Number }))
	if !k.draft {
		held.Secret.Destroy()
	}
	return nil
}

// checkNew says what is wrong with an epoch that is to be added.
func (k *Keyring) checkNew(e Epoch) error {
	if k.closed {
		return ErrDestroyed
	}
	if e.Number == 0 || e.Secret == nil || !e.Created.IsZero() && (e.Created.Unix() < 1 || e.Created.Unix() > maxCreated) {
		return fmt.Errorf("epoch %d: %w", e.Number, ErrInvalidEpoch)
	}
	if len(e.Statement) > MaxStatement {
		return fmt.Errorf("epoch %d: a statement of %d bytes: %w", e.Number, len(e.Statement), ErrSize)
	}
	if err := e.Secret.use(func([]byte) error { return nil }); err != nil {
		return fmt.Errorf("epoch %d: %w", e.Number, err)
	}
	for _, other := range k.epochs { // removing either would destroy both
		if other.Number != e.Number && other.Secret.Commitment() == e.Secret.Commitment() {
			return fmt.Errorf("epoch %d: %w: its secret is that of epoch %d", e.Number, ErrInvalidEpoch, other.Number)
		}
	}
	return nil
}

// add makes e one more beside others.
func (k *Keyring) add(e Epoch, others []Epoch) {
	e.Created = timeOf(unixOf(e.Created)) // as it will be read back
	e.Statement = bytes.Clone(e.Statement)
	next := k.state
	next.epochs = append(slices.Clone(others), e)
	slices.SortFunc(next.epochs, func(a, b Epoch) int { return cmp.Compare(a.Number, b.Number) })
	k.set(next)
}

// Use makes epoch n the primary. The errors are ErrUnknownEpoch and
// ErrDestroyed.
func (k *Keyring) Use(n uint64) error {
	k.change.Lock()
	defer k.change.Unlock()
	if k.closed {
		return ErrDestroyed
	}
	if _, ok := k.find(n); !ok {
		return fmt.Errorf("epoch %d: %w", n, ErrUnknownEpoch)
	}
	next := k.state
	next.primary = n
	k.set(next)
	return nil
}

// Remove drops epoch n and wipes its secret, under the hands of whoever still
// has the Epoch: deriving from it is an error then. For a keyring in a File, do
// it in Update, or the secret is gone before the file knows. The errors are
// ErrPrimary, ErrUnknownEpoch and ErrDestroyed.
func (k *Keyring) Remove(n uint64) error {
	k.change.Lock()
	defer k.change.Unlock()
	if k.closed {
		return ErrDestroyed
	}
	removed, ok := k.find(n)
	if !ok {
		return fmt.Errorf("epoch %d: %w", n, ErrUnknownEpoch)
	}
	if n == k.primary {
		return fmt.Errorf("epoch %d: %w", n, ErrPrimary)
	}
	next := k.state
	next.epochs = slices.DeleteFunc(slices.Clone(k.epochs), func(e Epoch) bool { return e.Number == n })
	k.set(next)
	if !k.draft {
		removed.Secret.Destroy()
	}
	return nil
}

// Primary returns the epoch that seals. Before the first Use it is a zero Epoch,
// whose nil Secret derives nothing.
func (k *Keyring) Primary() Epoch {
	s := k.snapshot()
	e, _ := s.find(s.primary)
	return e
}

// Get returns epoch n and whether it is held.
func (k *Keyring) Get(n uint64) (Epoch, bool) { return k.snapshot().find(n) }

// List returns what may be shown of the epochs, by ascending number.
func (k *Keyring) List() []EpochInfo {
	s := k.snapshot()
	list := make([]EpochInfo, 0, len(s.epochs))
	for _, e := range s.epochs {
		list = append(list, EpochInfo{
			Number:      e.Number,
			Primary:     e.Number == s.primary,
			Created:     e.Created,
			Fingerprint: e.Secret.Fingerprint(),
			Commitment:  e.Secret.Commitment(),
		})
	}
	return list
}

// Knock returns the cluster's knock secret.
func (k *Keyring) Knock() *Secret { return k.knock }

// Destroy wipes every secret of the keyring. Doing it twice is harmless.
func (k *Keyring) Destroy() {
	k.change.Lock()
	defer k.change.Unlock()
	epochs, draft := k.epochs, k.draft
	k.set(state{closed: true})
	if draft {
		return
	}
	for _, e := range epochs {
		e.Secret.Destroy()
	}
	k.knock.Destroy()
}

func (k *Keyring) snapshot() state {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.state
}

// set is for whoever holds change.
func (k *Keyring) set(next state) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state = next
}

// find returns the epoch with a statement of its own: the caller may write to it.
func (s state) find(n uint64) (Epoch, bool) {
	for _, e := range s.epochs {
		if e.Number == n {
			e.Statement = bytes.Clone(e.Statement)
			return e, true
		}
	}
	return Epoch{}, false
}

// image is what a file of this state says.
func (s state) image(knock *Secret) image {
	i := image{knock: knock, primary: s.primary}
	for _, e := range s.epochs {
		i.epochs = append(i.epochs, imageEpoch{e.Number, unixOf(e.Created), e.Statement, e.Secret})
	}
	return i
}

// fromImage makes a keyring with its own copies of the image's secrets.
func fromImage(i image) (_ *Keyring, err error) {
	k := New(nil)
	defer func() {
		if err != nil {
			k.Destroy()
		}
	}()
	if k.knock, err = secretOf(i.knock); err != nil {
		return nil, err
	}
	for _, e := range i.epochs {
		secret, err := secretOf(e.secret)
		if err != nil {
			return nil, err
		}
		k.epochs = append(k.epochs, Epoch{e.number, timeOf(e.created), statementOf(e.statement), secret})
	}
	k.primary = i.primary
	return k, nil
}

// secretOf copies the bytes out of the plaintext.
func secretOf(s source) (*Secret, error) { return copySecret(s.(plain)) }

// statementOf copies a statement; an empty one is none.
func statementOf(raw []byte) []byte {
	if len(raw) == 0 {
		return nil
	}
	return bytes.Clone(raw)
}
