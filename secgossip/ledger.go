package secgossip

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/transport"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// ledger knows which epochs there are and why: every change of the keyring rests
// on a statement some keeper signed. It is the transport's Ledger, so any two
// members that meet bring each other up to date.
//
// With each epoch it keeps the statements about it and, beside each, the
// credential of the keeper that signed it, so that whoever gets them needs no
// third party to verify them:
//
//	install N | credential | use N | credential | remove N-1 | credential
type ledger struct {
	trust  *pki.Trust
	logger *slog.Logger
	now    func() time.Time // the cluster's time, as far as we know it
	// changed is called without the lock after the keyring changed.
	changed func()
	// news is called without the lock with statements learned just now, in
	// the form they are passed on.
	news func(items [][]byte)
	// known says whether the revocations are held that an epoch names; nil: yes.
	known func([]wire.Named) bool
	noted func(error) // told whether the disk takes the keyring; must not call back

	mu      sync.Mutex
	file    *keyring.File
	pending map[uint64]*announced // installs whose secret we lack
	said    time.Time             // when it was said that the keyring cannot be written; zero: it can
	passed  uint64                // the highest epoch that a keeper made who is void by now
}

// announced is an epoch a keeper announced and whose secret has not come yet.
type announced struct {
	commitment [32]byte
	issued     time.Time
	statements [][]byte // pairs, install first
	use        bool
}

// maxPending bounds what keepers can announce ahead of its secrets.
const maxPending = 4

func newLedger(trust *pki.Trust, file *keyring.File, logger *slog.Logger, now func() time.Time, changed func(), news func([][]byte)) *ledger {
	return &ledger{trust: trust, file: file, logger: logger, now: now, changed: changed, news: news, pending: make(map[uint64]*announced), noted: func(error) {}}
}

// ErrUnwritten says that the keyring cannot be written, so nothing has changed: an
// epoch that a crash would take away is used by nobody.
var ErrUnwritten = errors.New("the keyring cannot be written, and no step is taken before it is; make room on its disk: what was begun goes on by itself")

// updateLocked changes the keyring, on disk first. That the disk does not take it is
// said once an hour, however often members bring what is new, and so is the end of it.
func (l *ledger) updateLocked(change func(k *keyring.Keyring) error) error {
	var refused error
	err := l.file.Update(func(k *keyring.Keyring) error {
		refused = change(k)
		return refused
	})
	switch now := time.Now(); {
	case refused != nil:
		return refused
	case errors.Is(err, keyring.ErrDestroyed): // the agent has closed it
		return err
	case err != nil:
		l.noted(err)
		if l.said.IsZero() || now.Sub(l.said) >= warnEvery {
			l.said = now
			l.logger.Error("keyring cannot be written: this node goes on with the epochs it has, and tries again", slog.Any("error", err))
		}
		return fmt.Errorf("%w: %w", ErrUnwritten, err)
	case !l.said.IsZero():
		l.said = time.Time{}
		l.noted(nil)
		l.logger.Info("keyring is written again")
	}
	return nil
}

// statement is a verified epoch statement with what it arrived as.
type statement struct {
	wire.Statement
	raw, credential []byte
}

// errNotKeeper says that a statement was signed by a node that may not.
var errNotKeeper = errors.New("signed by a node that is no keeper")

// verifyStatement checks one statement against the credential beside it.
//
// The credential is judged at the time the statement was made: an absent node
// must be able to follow statements of a keeper whose credential has since been
// renewed. Protocol: epoch statements. Of a keeper that was revoked since it returns
// the statement with pki.ErrRevoked.
func verifyStatement(trust *pki.Trust, raw, credential []byte, now time.Time) (*statement, error) {
	signed, err := wire.ParseStatement(raw)
	if err != nil {
		return nil, err
	}
	if signed.Statement.Issued.After(now.Add(pki.Tolerance)) {
		return nil, errors.New("epoch statement from the future")
	}
	keeper, err := trust.VerifyFormer(credential, signed.Statement.Issued)
	if err != nil {
		return nil, fmt.Errorf("keeper's credential: %w", err)
	}
	if keeper.Kind != pki.KindNode || !keeper.HasRole(pki.RoleKeeper) || string(keeper.Name) != signed.Statement.Keeper {
		return nil, errNotKeeper
	}
	if err := signed.Verify(keeper.SigningKey, trust.Cluster()); err != nil {
		return nil, err
	}
	s := &statement{Statement: signed.Statement, raw: bytes.Clone(raw), credential: bytes.Clone(credential)}
	if err := trust.CheckRevoked(keeper.Kind, keeper.Name, keeper.SigningKey, keeper.NotBefore); err != nil {
		return s, fmt.Errorf("keeper %q: %w", keeper.Name, err)
	}
	return s, nil
}

// Statements returns the statements of every epoch held.
func (l *ledger) Statements() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all [][]byte
	for _, info := range l.file.Keyring().List() {
		all = append(all, l.pairsLocked(info.Number)...)
	}
	return all
}

// pairsLocked reads the statements kept with an epoch.
func (l *ledger) pairsLocked(number uint64) [][]byte {
	epoch, ok := l.file.Keyring().Get(number)
	if !ok || len(epoch.Statement) == 0 {
		return nil
	}
	pairs, err := wire.BatchStatements.Parse(epoch.Statement)
	if err != nil || len(pairs)%2 != 0 {
		l.logger.Error("statements kept with an epoch do not read", slog.Uint64("epoch", number))
		return nil
	}
	return pairs
}

// State says which epochs are held, and the primary.
func (l *ledger) State() (s transport.State) {
	for i, info := range l.file.Keyring().List() { // the lowest comes first
		if i == 0 {
			s.Lowest = info.Number
		}
		s.Highest = info.Number
		if info.Primary {
			s.Primary = info.Number
		}
	}
	return s
}

// Learn takes in pairs of statement and credential. What does not verify is
// passed over; what is news is applied and passed on.
func (l *ledger) Learn(items [][]byte) []wire.SecretRequest {
	wanted, news := l.learn(items, l.now())
	if len(news) > 0 {
		l.changed()
		l.news(news)
	}
	return wanted
}

func (l *ledger) learn(items [][]byte, now time.Time) (wanted []wire.SecretRequest, news [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for pair := range slices.Chunk(items, 2) {
		if len(pair) != 2 || l.knownLocked(pair[0]) {
			continue
		}
		s, err := verifyStatement(l.trust, pair[0], pair[1], now)
		if errors.Is(err, pki.ErrRevoked) {
			l.passLocked(s)
		}
		if err != nil {
			l.logger.Debug("epoch statement refused", slog.Any("error", err))
			continue
		}
		fresh, err := l.applyLocked(s)
		if errors.Is(err, ErrUnwritten) {
			continue // that was said, and the statement comes again
		}
		if err != nil {
			l.logger.Error("epoch statement not applied", slog.Uint64("epoch", s.Number), slog.Any("error", err))
			continue
		}
		// An install is passed on with its secret in hand: whoever hears it from us
		// fetches it from us.
		if fresh && s.Action != wire.ActionInstall {
			news = append(news, pair...)
		}
	}
	for number, p := range l.pending {
		wanted = append(wanted, wire.SecretRequest{Number: number, Commitment: p.commitment})
	}
	slices.SortFunc(wanted, func(a, b wire.SecretRequest) int { return cmp.Compare(a.Number, b.Number) })
	return wanted, news
}

// knownLocked reports whether these very bytes were applied before.
func (l *ledger) knownLocked(raw []byte) bool {
	has := func(pairs [][]byte) bool {
		return slices.ContainsFunc(pairs, func(item []byte) bool { return bytes.Equal(item, raw) })
	}
	for _, info := range l.file.Keyring().List() {
		if has(l.pairsLocked(info.Number)) {
			return true
		}
	}
	for _, p := range l.pending {
		if has(p.statements) {
			return true
		}
	}
	return false
}

// applyLocked applies a verified statement. It reports whether it was news.
func (l *ledger) applyLocked(s *statement) (bool, error) {
	switch s.Action {
	case wire.ActionInstall:
		return l.announceLocked(s)
	case wire.ActionUse:
		return l.useLocked(s)
	case wire.ActionRemove:
		return l.removeLocked(s)
	}
	return false, fmt.Errorf("unknown action %d", s.Action)
}

// maxFork is how long parts of a cluster may have gone on by themselves, each
// with keepers of its own, and still become one again by what they made.
const maxFork = 24 * time.Hour

// maxAhead is how far an epoch's number may be ahead of all that are held: two years
// of an epoch a minute. One statement of a keeper gone wrong uses up no more of the
// numbers there are than one part in 2^44.
const maxAhead = 1 << 20

// passLocked notes the number of an epoch whose keeper is void by now: whoever
// followed that keeper in time takes in none that is not higher.
func (l *ledger) passLocked(s *statement) {
	tooOld := s.Issued.Before(l.file.Keyring().Primary().Created.Add(-maxFork))
	if highest := l.State().Highest; highest > 0 && s.Number <= highest+maxAhead && !tooOld {
		l.passed = max(l.passed, s.Number)
	}
}

// toPass is the number that the next epoch must be above, for those who followed a
// keeper that is void by now.
func (l *ledger) toPass() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.passed
}

func (l *ledger) announceLocked(s *statement) (bool, error) {
	epoch, held := l.file.Keyring().Get(s.Number)
	primary := l.file.Keyring().Primary()
	switch {
	case held && epoch.Secret.Commitment() == s.Commitment:
		return false, nil
	case held && !precedes(s.raw, l.pairsLocked(s.Number)):
		return false, nil // two keepers took one number, and ours is the one
	case s.Number < primary.Number || s.Number == primary.Number && !held:
		return false, nil // older than what we seal with: nobody needs it
	}
	if highest := l.State().Highest; highest > 0 && s.Number > highest+maxAhead {
		return false, fmt.Errorf("epoch is more than %d ahead of epoch %d", maxAhead, highest)
	}
	// A keeper's credential is judged at the time its statement names. That
	// must not lie far before what we have, or an expired keeper signs for ever.
	if s.Issued.Before(primary.Created.Add(-maxFork)) {
		return false, errors.New("epoch statement older than the epoch in use")
	}
	if _, room := roomFor(l.file.Keyring(), s.Number); !held && !room {
		return false, nil // a later one will be used
	}
	if p := l.pending[s.Number]; p != nil && (p.commitment == s.Commitment || !precedes(s.raw, p.statements)) {
		return false, nil
	}
	if l.pending[s.Number] == nil && !l.roomLocked(s.Number) {
		return false, nil
	}
	l.pending[s.Number] = &announced{
		commitment: s.Commitment,
		issued:     s.Issued,
		statements: [][]byte{s.raw, s.credential},
	}
	return true, nil
}

// precedes says which of two epochs of one number the cluster takes: the one whose
// install statement has the lower SHA-256. Whoever heard of them in whatever order
// comes to the same.
func precedes(install []byte, pairs [][]byte) bool {
	if len(pairs) == 0 {
		return false
	}
	one, other := sha256.Sum256(install), sha256.Sum256(pairs[0])
	return bytes.Compare(one[:], other[:]) < 0
}

// roomLocked makes room for one more announced epoch: the lowest one goes, whose
// secret nobody may have any more.
func (l *ledger) roomLocked(number uint64) bool {
	if len(l.pending) < maxPending {
		return true
	}
	lowest := slices.Min(slices.Collect(maps.Keys(l.pending)))
	if lowest > number {
		return false
	}
	delete(l.pending, lowest)
	return true
}

func (l *ledger) useLocked(s *statement) (bool, error) {
	if p := l.pending[s.Number]; p != nil && p.commitment == s.Commitment {
		p.use = true
		p.statements = append(p.statements, s.raw, s.credential)
		return true, nil
	}
	epoch, held := l.file.Keyring().Get(s.Number)
	if !held || epoch.Secret.Commitment() != s.Commitment {
		return false, nil // the install statement will come, and this one again
	}
	if s.Number < l.file.Keyring().Primary().Number || l.usedLocked(epoch) {
		return false, nil
	}
	err := l.updateLocked(func(k *keyring.Keyring) error {
		if err := l.keepLocked(k, s.Number, [][]byte{s.raw, s.credential}); err != nil {
			return err
		}
		return switchTo(k, s.Number)
	})
	if err != nil {
		return false, err
	}
	l.settleLocked()
	return true, nil
}

// usedLocked reports whether a keeper's word that an epoch is to be used is kept with
// it.
func (l *ledger) usedLocked(epoch keyring.Epoch) bool {
	for pair := range slices.Chunk(l.pairsLocked(epoch.Number), 2) {
		s, err := wire.ParseStatement(pair[0])
		if err == nil && s.Action == wire.ActionUse && s.Commitment == epoch.Secret.Commitment() {
			return true
		}
	}
	return false
}

// unsaid returns the statement that installed the epoch in use, if nobody has said
// that it is to be used: it took the place of another of its number, and who holds it
// and was not here does not seal with it.
func (l *ledger) unsaid(now time.Time) (*statement, bool) {
	l.mu.Lock()
	primary := l.file.Keyring().Primary()
	said := primary.Number == 0 || l.usedLocked(primary)
	l.mu.Unlock()
	if said {
		return nil, false
	}
	return l.installed(primary.Number, now)
}

// switchTo makes an epoch the primary. Epochs two behind and older go: nobody
// alive seals with them.
func switchTo(k *keyring.Keyring, number uint64) error {
	if err := k.Use(number); err != nil {
		return err
	}
	for _, info := range k.List() {
		if info.Number+1 < number {
			if err := k.Remove(info.Number); err != nil {
				return err
			}
		}
	}
	return nil
}

// settleLocked forgets announced epochs that a later one has overtaken.
func (l *ledger) settleLocked() {
	primary := l.file.Keyring().Primary()
	maps.DeleteFunc(l.pending, func(number uint64, p *announced) bool {
		return number < primary.Number || number == primary.Number && p.commitment == primary.Secret.Commitment()
	})
}

func (l *ledger) removeLocked(s *statement) (bool, error) {
	primary := l.file.Keyring().Primary().Number
	epoch, held := l.file.Keyring().Get(s.Number)
	if !held || epoch.Secret.Commitment() != s.Commitment || s.Number >= primary {
		return false, nil
	}
	return true, l.updateLocked(func(k *keyring.Keyring) error {
		if err := k.Remove(s.Number); err != nil {
			return err
		}
		// Kept with the primary, so that it reaches whoever comes later.
		return l.keepLocked(k, primary, [][]byte{s.raw, s.credential})
	})
}

// keepLocked adds a statement to those kept with an epoch.
func (l *ledger) keepLocked(k *keyring.Keyring, number uint64, pair [][]byte) error {
	body, err := wire.BatchStatements.Append(nil, append(l.pairsLocked(number), pair...))
	if err != nil {
		return err
	}
	return k.SetStatement(number, body)
}

// errUnknownRevocations says that an epoch names revocations that are not held here.
var errUnknownRevocations = errors.New("epoch names revocations that are not known here")

// Secret returns the secret of an epoch for a verified member. Whoever does not know
// the revocations that the epoch names might hand it to one of those.
func (l *ledger) Secret(of wire.SecretRequest) ([]byte, error) {
	epoch, ok := l.file.Keyring().Get(of.Number)
	if !ok || epoch.Secret.Commitment() != of.Commitment {
		return nil, keyring.ErrUnknownEpoch
	}
	if install, ok := l.installStatement(of.Number); ok && l.known != nil && !l.known(install.Named) {
		return nil, errUnknownRevocations
	}
	var out bytes.Buffer
	out.Grow(keyring.SecretSize)
	if _, err := epoch.Secret.WriteTo(&out); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Install takes the secret of an announced epoch, if it is the one the keeper
// committed to. It is on disk on return, if epochs are kept there.
func (l *ledger) Install(asked wire.SecretRequest, raw []byte) error {
	secret, err := keyring.SecretFrom(raw)
	if err != nil {
		return err
	}
	statements, err := l.install(asked.Number, secret)
	if len(statements) == 0 {
		secret.Destroy()
		if errors.Is(err, ErrUnwritten) {
			return fmt.Errorf("%w: %w", transport.ErrNotKept, err)
		}
		return err
	}
	l.changed()
	l.news(statements)
	return nil
}

// install returns what was said about the epoch, if the keyring took the secret over.
// An epoch that is held by now, or that a later one has overtaken, is no error and not
// taken. Of two epochs of one number the one announced takes the other's place.
func (l *ledger) install(number uint64, secret *keyring.Secret) (statements [][]byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if held, ok := l.file.Keyring().Get(number); ok && held.Secret.Commitment() == secret.Commitment() {
		return nil, nil // another member was faster
	}
	p := l.pending[number]
	if p == nil {
		return nil, errors.New("epoch was not announced")
	}
	if secret.Commitment() != p.commitment {
		return nil, errors.New("secret is not the one its keeper committed to")
	}
	body, err := wire.BatchStatements.Append(nil, p.statements)
	if err != nil {
		return nil, err
	}
	// One step on disk: a node that is killed holds all of it or nothing.
	err = l.updateLocked(func(k *keyring.Keyring) error {
		add := k.Install
		if _, held := k.Get(number); held {
			add = k.Replace
		} else if goes, _ := roomFor(k, number); goes > 0 {
			if err := k.Remove(goes); err != nil {
				return err
			}
		}
		if err := add(keyring.Epoch{Number: number, Created: p.issued, Statement: body, Secret: secret}); err != nil {
			return err
		}
		if p.use && number > k.Primary().Number {
			return switchTo(k, number)
		}
		return nil
	})
	if errors.Is(err, keyring.ErrFull) {
		delete(l.pending, number) // of later ones, see announceLocked
	}
	if err != nil {
		return nil, err
	}
	delete(l.pending, number)
	l.settleLocked()
	l.logger.Info("epoch installed", slog.Uint64("epoch", number))
	return p.statements, nil
}

// roomFor reports whether there is room for an epoch of a number, and which goes for it: 0
// for none, or in a full keyring the lowest, if that is lower. The primary stays. Whoever
// was away may hold epochs that nobody ever used, and so a full keyring; what is needed of
// them after all is fetched again.
func roomFor(k *keyring.Keyring, number uint64) (goes uint64, room bool) {
	list := k.List()
	if len(list) < keyring.MaxEpochs {
		return 0, true
	}
	for _, info := range list {
		if !info.Primary && info.Number < number {
			return info.Number, true
		}
	}
	return 0, false
}

// begin installs an epoch of our own making: we are a keeper.
func (l *ledger) begin(s *statement, secret *keyring.Secret) error {
	if err := l.installOwn(s, secret); err != nil {
		return err
	}
	l.changed()
	return nil
}

func (l *ledger) installOwn(s *statement, secret *keyring.Secret) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	body, err := wire.BatchStatements.Append(nil, [][]byte{s.raw, s.credential})
	if err != nil {
		return err
	}
	return l.updateLocked(func(k *keyring.Keyring) error {
		return k.Install(keyring.Epoch{Number: s.Number, Created: s.Issued, Statement: body, Secret: secret})
	})
}

// begun returns the statement that installed the highest epoch held, if that one
// is not in use yet: a rotation that was cut short.
func (l *ledger) begun(now time.Time) (*statement, bool) {
	state := l.State()
	if state.Highest <= state.Primary {
		return nil, false
	}
	return l.installed(state.Highest, now)
}

// installed returns the statement that installed an epoch held.
func (l *ledger) installed(number uint64, now time.Time) (*statement, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pairs := l.pairsLocked(number)
	if len(pairs) < 2 {
		return nil, false
	}
	s, err := verifyStatement(l.trust, pairs[0], pairs[1], now)
	return s, err == nil
}

// next is the number of the next epoch to make: above all that are held or
// announced, or were by a keeper that is void by now.
func (l *ledger) next() uint64 {
	highest := l.State().Highest
	l.mu.Lock()
	defer l.mu.Unlock()
	highest = max(highest, l.passed)
	for number := range l.pending {
		highest = max(highest, number)
	}
	return highest + 1
}

// apply applies a statement of our own.
func (l *ledger) apply(s *statement) error {
	l.mu.Lock()
	_, err := l.applyLocked(s)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	l.changed()
	return nil
}

// installDigest is the SHA-256 of the statement that installed an epoch, which
// the next one names.
func (l *ledger) installDigest(number uint64) [32]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pairs := l.pairsLocked(number); len(pairs) > 0 {
		return sha256.Sum256(pairs[0])
	}
	return [32]byte{}
}

// previousDigest is what the statement that installed an epoch says of the one
// before it.
func (l *ledger) previousDigest(number uint64) [32]byte {
	install, _ := l.installStatement(number)
	return install.Previous
}

// revoked is what the statement that installed an epoch says of all revocations.
func (l *ledger) revoked(number uint64) [wire.RevokedSize]byte {
	install, _ := l.installStatement(number)
	return install.Revoked
}

// installStatement is what installed an epoch held. It was verified when it came.
func (l *ledger) installStatement(number uint64) (wire.Statement, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pairs := l.pairsLocked(number); len(pairs) > 0 {
		if signed, err := wire.ParseStatement(pairs[0]); err == nil {
			return signed.Statement, true
		}
	}
	return wire.Statement{}, false
}

var _ transport.Ledger = (*ledger)(nil)
