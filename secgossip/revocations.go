package secgossip

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/transport"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// revocations knows which identities were taken back: one statement of a keeper for
// each subject, the latest. It is what pki.Trust asks at every verification, so that
// whatever it learns holds everywhere at once, and the transport's Revocations, so
// that any two members that meet tell each other before they speak of epochs.
//
// In whatever order statements come, all nodes end with the same. Protocol 3.8.
type revocations struct {
	trust  *pki.Trust
	logger *slog.Logger
	now    func() time.Time // the cluster's time
	path   string           // where they are kept; empty: in memory only
	// changed is called without the lock after an identity became void or valid.
	changed func()
	// news is called without the lock with what was learned just now.
	news func(items [][]byte)
	// noted is told of each attempt to write them, and must not call back.
	noted func(error)

	mu   sync.Mutex
	held map[wire.Subject]*revocation
	full bool // and said so

	inForce atomic.Pointer[inForce]
}

// revocation is a verified statement with what it arrived as, and whose it is.
type revocation struct {
	wire.Revocation
	digest          [32]byte
	raw, credential []byte
	signer          *pki.Credential

	// former is what another keeper said of the same subject before. It counts
	// again should this one's keeper turn out to have been void.
	former *revocation
}

// inForce is what all of them together say. It is never changed, only replaced.
type inForce struct {
	names map[kindAndName]time.Time // void is what was issued before
	keys  map[[32]byte]time.Time

	all    []*revocation // those that count, the oldest first
	issued map[[wire.SubjectSize]byte]time.Time
	digest [32]byte               // of the statements
	sum    [wire.RevokedSize]byte // of what they say; zeros if there are none
	since  time.Time              // when it came to be so, by our clock; zero: before we started
}

type kindAndName struct {
	kind wire.Kind
	name string
}

const (
	// revocationsFile is a BatchRevoked in the state folder, as a kept file.
	revocationsFile = "revocations"

	// outlived is how long a revocation is kept after the last moment at which
	// something was issued that it voids: the longest life there is, and time for
	// clocks and backups to be wrong.
	outlived = pki.RootLife + 30*24*time.Hour

	// nameable is how old a revocation is that an epoch still names: older ones
	// are known to whoever was here within a month.
	nameable = 30 * 24 * time.Hour

	// sayAgain is how long before its keeper's issuer ends a revocation is said
	// again by another: newcomers take in no issuer that has ended.
	sayAgain = 30 * 24 * time.Hour

	// maxFormer is how many earlier revocations of a subject are kept in memory, each
	// of another keeper: as many as could be void at once, with one to spare.
	maxFormer = 3
)

// ErrRevocations says that the cluster cannot hold another revocation.
var ErrRevocations = fmt.Errorf("%d revocations are held, which is the limit", wire.MaxRevocations)

// errOfItself says that a keeper revokes its own identity.
var errOfItself = errors.New("a keeper revokes itself")

func newRevocations(trust *pki.Trust, logger *slog.Logger, now func() time.Time, changed func(), news func([][]byte)) *revocations {
	r := &revocations{trust: trust, logger: logger, now: now, changed: changed, news: news, held: make(map[wire.Subject]*revocation), noted: func(error) {}}
	r.inForce.Store(new(inForce))
	return r
}

// verifyRevocation checks one revocation against the credential beside it. The
// credential is judged at the time the revocation was made, whatever became of its
// keeper since: settle decides about that.
func verifyRevocation(trust *pki.Trust, signed wire.SignedRevocation, credential []byte, now time.Time) (*revocation, error) {
	if signed.Issued.After(now.Add(pki.Tolerance)) {
		return nil, errors.New("revocation from the future")
	}
	keeper, err := trust.VerifyFormer(credential, signed.Issued)
	if err != nil {
		return nil, fmt.Errorf("keeper's credential: %w", err)
	}
	return readRevocation(trust, signed, credential, keeper)
}

// readRevocation is verifyRevocation but for where the credential comes from.
func readRevocation(trust *pki.Trust, signed wire.SignedRevocation, credential []byte, keeper *pki.Credential) (*revocation, error) {
	if keeper.Kind != pki.KindNode || !keeper.HasRole(pki.RoleKeeper) || string(keeper.Name) != signed.Keeper {
		return nil, errNotKeeper
	}
	if err := signed.Verify(keeper.SigningKey, trust.Cluster()); err != nil {
		return nil, err
	}
	if _, err := pki.ParseName(signed.Name); err != nil {
		return nil, err
	}
	// What a keeper says of itself would take the place of its eviction.
	if signed.Kind == wire.KindNode && signed.Name == signed.Keeper || bytes.Equal(signed.Key[:], keeper.SigningKey) {
		return nil, errOfItself
	}
	return &revocation{
		Revocation: signed.Revocation, digest: signed.Digest, raw: signed.Raw,
		credential: bytes.Clone(credential), signer: keeper,
	}, nil
}

// after orders revocations by time. Of two of one time the one with the lower digest
// comes later, so that it is the one that counts.
func (r *revocation) after(other *revocation) bool {
	return cmp.Or(r.Issued.Compare(other.Issued), bytes.Compare(other.digest[:], r.digest[:])) > 0
}

// void reports whether an identity that was issued then is taken back. Threat K15: a
// name is void with any key, and a key in any name, also as another kind.
func (f *inForce) void(kind wire.Kind, name string, key []byte, issued time.Time) bool {
	if before, ok := f.names[kindAndName{kind, name}]; ok && issued.Before(before) {
		return true
	}
	if len(key) != 32 {
		return false
	}
	before, ok := f.keys[[32]byte(key)]
	return ok && issued.Before(before)
}

// add lets one more revocation count.
func (f *inForce) add(r *revocation) {
	name := kindAndName{r.Kind, r.Name}
	if r.Before.After(f.names[name]) {
		f.names[name] = r.Before
	}
	if r.Key != ([32]byte{}) && r.Before.After(f.keys[r.Key]) {
		f.keys[r.Key] = r.Before
	}
	f.all = append(f.all, r)
}

// settle says what a set of revocations comes to: taken in the order in which they
// were made, those whose keeper was void by then do not count, nor do those that
// nothing is left to be voided by. In the place of one that does not count comes what
// was said before it.
func settle(held map[wire.Subject]*revocation, now time.Time) *inForce {
	latest := make([]*revocation, 0, len(held))
	for _, r := range held {
		latest = append(latest, r)
	}
	for {
		f := &inForce{
			names: make(map[kindAndName]time.Time), keys: make(map[[32]byte]time.Time), since: now,
		}
		slices.SortFunc(latest, func(a, b *revocation) int {
			if a.after(b) {
				return 1
			}
			return -1
		})
		var formers bool
		for i, r := range latest {
			switch {
			case f.voids(r.signer):
				if r.former != nil {
					latest[i], formers = r.former, true
				}
			case !r.Before.Before(now.Add(-outlived)):
				f.add(r)
			}
		}
		if !formers {
			return f
		}
	}
}

// voids reports whether a keeper is void.
func (f *inForce) voids(keeper *pki.Credential) bool {
	return f.void(wire.KindNode, string(keeper.Name), keeper.SigningKey, keeper.NotBefore.Add(pki.Backdate))
}

// sums computes the digests.
func (f *inForce) sums() {
	f.issued = make(map[[wire.SubjectSize]byte]time.Time, len(f.all))
	var statements, contents [][]byte
	for _, r := range f.all {
		hash := r.Hash()
		f.issued[hash] = r.Issued
		statements = append(statements, r.digest[:])
		contents = append(contents, binary.BigEndian.AppendUint64(hash[:], uint64(r.Before.UnixMilli())))
	}
	sum := func(parts [][]byte) [32]byte {
		slices.SortFunc(parts, bytes.Compare)
		return sha256.Sum256(bytes.Join(parts, nil))
	}
	f.digest = sum(statements)
	if len(contents) > 0 {
		whole := sum(contents)
		copy(f.sum[:], whole[:])
	}
}

// Revoked is pki.Revoked.
func (r *revocations) Revoked(kind pki.Kind, name pki.Name, key ed25519.PublicKey, issued time.Time) bool {
	return r.inForce.Load().void(wire.Kind(kind), string(name), key, issued)
}

// Revocations returns all that are held, as they are passed on.
func (r *revocations) Revocations() [][]byte { return itemsOf(r.inForce.Load().all) }

func itemsOf(all []*revocation) [][]byte {
	var items [][]byte
	for _, one := range all {
		items = append(items, one.raw, one.credential)
	}
	return items
}

// Digest identifies all that are held.
func (r *revocations) Digest() [32]byte { return r.inForce.Load().digest }

// list returns those that count, the oldest first.
func (r *revocations) list() []*revocation { return r.inForce.Load().all }

// naming is what the install statement of an epoch says about revocations.
func (r *revocations) naming(now time.Time) (sum [wire.RevokedSize]byte, named []wire.Named) {
	f := r.inForce.Load()
	for _, one := range slices.Backward(f.all) {
		if len(named) == wire.MaxNamed || one.Issued.Before(now.Add(-nameable)) {
			break
		}
		named = append(named, wire.Named{Subject: one.Hash(), Issued: one.Issued})
	}
	slices.SortFunc(named, func(a, b wire.Named) int { return bytes.Compare(a.Subject[:], b.Subject[:]) })
	return f.sum, named
}

// holds reports whether all of these are known, or later ones about the same.
func (r *revocations) holds(named []wire.Named) bool {
	f := r.inForce.Load()
	return !slices.ContainsFunc(named, func(n wire.Named) bool {
		issued, ok := f.issued[n.Subject]
		return !ok || issued.Before(n.Issued)
	})
}

// Learn takes in pairs of revocation and credential. What does not verify is passed
// over; what is news holds on return and is passed on.
func (r *revocations) Learn(items [][]byte) {
	if news := r.learn(items, r.now()); len(news) > 0 {
		r.changed()
		r.news(itemsOf(news))
	}
}

func (r *revocations) learn(items [][]byte, now time.Time) (news []*revocation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var fresh []*revocation
	for pair := range slices.Chunk(items, 2) {
		if len(pair) != 2 {
			continue
		}
		signed, err := wire.ParseRevocation(pair[0])
		if err == nil && r.knownLocked(signed) {
			continue
		}
		var one *revocation
		if err == nil {
			one, err = verifyRevocation(r.trust, signed, pair[1], now)
		}
		if err != nil {
			r.logger.Debug("revocation refused", slog.Any("error", err))
			continue
		}
		fresh = append(fresh, one)
	}
	// In the order in which they were made: what a keeper said that was void by
	// then must not take the place of what counts.
	slices.SortFunc(fresh, func(a, b *revocation) int { return a.Issued.Compare(b.Issued) })
	for _, one := range fresh {
		if r.takeLocked(one, now) {
			news = append(news, one)
		}
	}
	if len(news) > 0 {
		r.enactLocked(now)
		r.log(news)
	}
	return news
}

// knownLocked reports whether a revocation says nothing that could count: it is
// held, or a later one about the same subject is. That must cost no signature.
func (r *revocations) knownLocked(signed wire.SignedRevocation) bool {
	held := r.held[signed.Subject]
	return held != nil && !(&revocation{Revocation: signed.Revocation, digest: signed.Digest}).after(held)
}

// takeLocked takes a revocation in if it counts, and forgets what counts no more.
func (r *revocations) takeLocked(one *revocation, now time.Time) bool {
	held := r.held[one.Subject]
	if held != nil && !one.after(held) {
		return false
	}
	if held == nil && len(r.held) >= wire.MaxRevocations {
		if !r.full {
			r.full = true
			r.logger.Error("a revocation is not taken in", slog.Any("error", ErrRevocations))
		}
		return false
	}
	one.former = held.before(one)
	r.held[one.Subject] = one
	if !slices.Contains(settle(r.held, now).all, one) {
		delete(r.held, one.Subject)
		if held != nil {
			r.held[one.Subject] = held
		}
		return false
	}
	return true
}

// before returns what is to count in the place of a later revocation: the latest of
// another keeper, and no more than maxFormer of them.
func (r *revocation) before(later *revocation) *revocation {
	seen := []string{later.Keeper}
	var kept []*revocation
	for ; r != nil && len(kept) < maxFormer; r = r.former {
		if !slices.Contains(seen, r.Keeper) {
			seen, kept = append(seen, r.Keeper), append(kept, r)
		}
	}
	var former *revocation
	for _, one := range slices.Backward(kept) {
		again := *one // the others of its chain are not those that it was learned with
		again.former = former
		former = &again
	}
	return former
}

// enactLocked writes what is held to disk, and then lets it hold. A disk that takes
// nothing must not keep a revoked identity valid: it is written as soon as it can be, and
// until then a restart has to learn it from others.
func (r *revocations) enactLocked(now time.Time) {
	next := r.settleLocked(now)
	r.noted(r.save(next))
	r.inForce.Store(next)
}

// writeAgain writes what a disk did not take before.
func (r *revocations) writeAgain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noted(r.save(r.inForce.Load()))
}

// settleLocked forgets what does not count.
func (r *revocations) settleLocked(now time.Time) *inForce {
	next := settle(r.held, now)
	next.sums()
	clear(r.held)
	for _, one := range next.all {
		r.held[one.Subject] = one
	}
	r.full = r.full && len(r.held) >= wire.MaxRevocations
	return next
}

// say takes in revocations of our own making, which are on disk on return. After an
// error nothing has changed.
func (r *revocations) say(all []*revocation, now time.Time) error {
	if err := r.sayLocked(all, now); err != nil {
		return err
	}
	r.log(all)
	r.changed()
	r.news(itemsOf(all))
	return nil
}

func (r *revocations) sayLocked(all []*revocation, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := make(map[wire.Subject]*revocation, len(r.held)+len(all))
	for subject, one := range r.held {
		next[subject] = one
	}
	for _, one := range all {
		one.former = next[one.Subject].before(one)
		next[one.Subject] = one
	}
	if len(next) > wire.MaxRevocations {
		return ErrRevocations
	}
	settled := settle(next, now)
	if err := r.save(settled); err != nil {
		return fmt.Errorf("writing revocations: %w", err)
	}
	r.held = next
	r.inForce.Store(r.settleLocked(now))
	return nil
}

// log says what was learned: one by one, unless it is all that a newcomer hears.
func (r *revocations) log(news []*revocation) {
	const most = 8
	if len(news) > most {
		r.logger.Info("revocations learned", slog.Int("count", len(news)))
		return
	}
	for _, one := range news {
		r.logger.Info("identity revoked", slog.String("verb", one.Verb.String()), slog.String("subject", one.Name),
			slog.String("keeper", one.Keeper), slog.String("reason", one.Reason))
	}
}

// save writes beside the file and renames.
func (r *revocations) save(f *inForce) error {
	if r.path == "" {
		return nil
	}
	body, err := wire.BatchRevoked.Append(nil, itemsOf(f.all))
	if err != nil {
		return err
	}
	return writeKept(r.path, r.trust.Cluster(), body)
}

// load reads what an earlier run has kept. Of a file that does not read nothing is
// used: every other member has what was in it. The error is another cluster's file.
func (r *revocations) load(path string, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.path = path
	const most = 2 * wire.MaxRevocations * (wire.LengthSize + wire.MaxRevocation)
	err := loadKept(path, r.trust.Cluster(), most, r.logger, r.readLocked)
	next := r.settleLocked(now)
	next.since = time.Time{}
	r.inForce.Store(next)
	return err
}

// readLocked takes in all of a file or nothing.
func (r *revocations) readLocked(body []byte) error {
	items, err := wire.BatchRevoked.Parse(body)
	if err == nil && len(items)%2 != 0 {
		err = errors.New("a revocation without its keeper's credential")
	}
	held := make(map[wire.Subject]*revocation)
	for pair := range slices.Chunk(items, 2) {
		if err != nil {
			break
		}
		var signed wire.SignedRevocation
		if signed, err = wire.ParseRevocation(pair[0]); err != nil {
			break
		}
		// It was verified before it was written. Its keeper's issuer may be one that
		// is not known here yet, or has ended, and our clock may be behind.
		var keeper *pki.Credential
		if keeper, err = r.trust.ReadVerified(pair[1]); err != nil {
			break
		}
		var one *revocation
		if one, err = readRevocation(r.trust, signed, pair[1], keeper); err != nil {
			break
		}
		held[one.Subject] = one
	}
	if err == nil {
		r.held = held
	}
	return err
}

// of returns those of a kind and name.
func (r *revocations) of(kind wire.Kind, name string) []*revocation {
	return slices.DeleteFunc(slices.Clone(r.list()), func(one *revocation) bool { return one.Kind != kind || one.Name != name })
}

// orphans returns what was said by keepers that are void by now, or whose issuer is
// unknown or ends soon, and before until, which is when our own ends: a newcomer
// would not believe it, or not for long. It costs no signature.
func (r *revocations) orphans(now, until time.Time) []*revocation {
	f := r.inForce.Load()
	return slices.DeleteFunc(slices.Clone(f.all), func(one *revocation) bool {
		ends := r.trust.SignerEnd(one.signer)
		return !f.voids(one.signer) && (ends.After(now.Add(sayAgain)) || !until.After(ends))
	})
}

var _ transport.Revocations = (*revocations)(nil)
