package secgossip

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// payloads are those that travel beside their events, kept until the events expire: for
// members that pull them, and for this node's own start after a crash. They are in the
// state folder, or in memory where there is none.
//
// A file is called payload-DIGEST-EXPIRES, SHA-256 in hexadecimal and milliseconds since
// 1970, and holds nothing but the payload: its name is its checksum.
type payloads struct {
	folder    string        // empty: memory only
	turn      chan struct{} // holds a token while nobody writes
	most      int           // maxPayloads, and maxPayloadBytes; a test has fewer
	mostBytes int

	mu    sync.Mutex
	held  map[payloadDigest]*heldPayload
	ages  list.List // of *heldPayload, the one taken in first in front
	bytes int
}

type payloadDigest = [sha256.Size]byte

type heldPayload struct {
	digest  payloadDigest
	size    int
	expires time.Time
	since   time.Time
	content []byte // nil: in the folder
	age     *list.Element
}

const (
	// maxPayloads and maxPayloadBytes bound what is kept: 64 of the largest, or three a
	// second of short ones for as long as events live by default.
	maxPayloads     = 1024
	maxPayloadBytes = 64 * wire.MaxLargePayload

	// payloadAge is how long a payload is safe from newer ones when there is no room: a
	// live member has pulled it by then. So a cluster takes in as much in a minute at
	// most, and clients hear that it is busy before anything is lost.
	payloadAge = time.Minute

	// payloadWait is how long somebody waits for a slow disk.
	payloadWait = acceptTimeout

	payloadPrefix = "payload-"
)

// errPayloadsFull means that large events come faster than they are spread. It is ErrBusy.
var errPayloadsFull = fmt.Errorf("%w: the payloads of the last minute are %d or have %d MiB", ErrBusy, maxPayloads, maxPayloadBytes>>20)

func newPayloads(folder string) *payloads {
	p := &payloads{
		folder: folder, turn: make(chan struct{}, 1), held: make(map[payloadDigest]*heldPayload),
		most: maxPayloads, mostBytes: maxPayloadBytes,
	}
	p.turn <- struct{}{}
	return p
}

// load finds what was kept before this start, and removes what is of no more use.
func (p *payloads) load(now time.Time) error {
	if p.folder == "" {
		return nil
	}
	entries, err := os.ReadDir(p.folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var found []*heldPayload
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), payloadPrefix) {
			continue
		}
		h, err := parsePayloadName(entry.Name())
		info, statErr := entry.Info()
		if err = errors.Join(err, statErr); err == nil && info.Mode().IsRegular() && info.Size() <= wire.MaxLargePayload && now.Before(h.expires) {
			h.size, h.since = int(info.Size()), now
			found = append(found, h)
			continue
		}
		_ = os.Remove(filepath.Join(p.folder, entry.Name())) // the next start tries again
	}
	// With the clock set back there may be too many. Those that expire last stay.
	slices.SortFunc(found, func(a, b *heldPayload) int { return b.expires.Compare(a.expires) })
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range found {
		if len(p.held) >= p.most || p.bytes+h.size > p.mostBytes || p.held[h.digest] != nil {
			_ = os.Remove(p.path(h))
			continue
		}
		p.addLocked(h)
	}
	return nil
}

func (p *payloads) path(h *heldPayload) string { return filepath.Join(p.folder, h.name()) }

func (h *heldPayload) name() string {
	return fmt.Sprintf("%s%x-%d", payloadPrefix, h.digest, h.expires.UnixMilli())
}

func parsePayloadName(name string) (*heldPayload, error) {
	digest, expires, _ := strings.Cut(strings.TrimPrefix(name, payloadPrefix), "-")
	raw, err := hex.DecodeString(digest)
	millis, numberErr := strconv.ParseInt(expires, 10, 64)
	if err != nil || numberErr != nil || len(raw) != sha256.Size {
		return nil, fmt.Errorf("%q is no payload", name)
	}
	h := &heldPayload{digest: payloadDigest(raw), expires: time.UnixMilli(millis)}
	if h.name() != name {
		return nil, fmt.Errorf("%q is not what we call a payload", name) // nor what we would remove
	}
	return h, nil
}

func (p *payloads) addLocked(h *heldPayload) {
	h.age = p.ages.PushBack(h)
	p.held[h.digest] = h
	p.bytes += h.size
}

func (p *payloads) removeLocked(h *heldPayload) {
	if p.held[h.digest] == h {
		p.ages.Remove(h.age)
		delete(p.held, h.digest)
		p.bytes -= h.size
	}
}

// has reports whether a payload is here.
func (p *payloads) has(digest payloadDigest, size int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.held[digest]
	return h != nil && h.size == size
}

// room reports whether one more payload of this size can be kept.
func (p *payloads) room(size int, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	count, bytes := len(p.held), p.bytes
	for e := p.ages.Front(); e != nil; e = e.Next() {
		if h := e.Value.(*heldPayload); h.spare(now) {
			count, bytes = count-1, bytes-h.size
		}
	}
	return count < p.most && bytes+size <= p.mostBytes
}

// spare reports whether a payload may go for a newer one.
func (h *heldPayload) spare(now time.Time) bool {
	return !now.Before(h.expires) || now.Sub(h.since) >= payloadAge
}

// makeRoomLocked takes out what has expired, and the oldest ones of which there are too
// many.
func (p *payloads) makeRoomLocked(size int, now time.Time) (out []*heldPayload, ok bool) {
	full := func() bool { return len(p.held) >= p.most || p.bytes+size > p.mostBytes }
	out = p.expireLocked(now)
	for e := p.ages.Front(); e != nil && full(); {
		h := e.Value.(*heldPayload)
		e = e.Next()
		if h.spare(now) {
			p.removeLocked(h)
			out = append(out, h)
		}
	}
	return out, !full()
}

// expireLocked takes out what has expired.
func (p *payloads) expireLocked(now time.Time) (out []*heldPayload) {
	for _, h := range p.held {
		if !now.Before(h.expires) {
			p.removeLocked(h)
			out = append(out, h)
		}
	}
	return out
}

// put keeps a payload whose digest was checked, until its event expires. On return it is
// on disk. Errors: ErrBusy, and what writing gives.
func (p *payloads) put(digest payloadDigest, content []byte, expires, now time.Time) error {
	patience := time.NewTimer(payloadWait)
	defer patience.Stop()
	select {
	case <-p.turn:
		defer func() { p.turn <- struct{}{} }()
	case <-patience.C:
		return ErrBusy
	}
	next := &heldPayload{digest: digest, size: len(content), expires: expires, since: now}
	p.mu.Lock()
	before := p.held[digest]
	if before != nil && !before.expires.Before(expires) {
		p.mu.Unlock()
		return nil
	}
	out, ok := p.makeRoomLocked(len(content), now)
	p.mu.Unlock()
	p.unlink(out)
	if !ok && before == nil {
		return errPayloadsFull
	}
	if p.folder == "" {
		next.content = content
	} else if err := writeFile(p.path(next), content); err != nil {
		return fmt.Errorf("keeping a payload: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if before = p.held[digest]; before != nil {
		p.removeLocked(before)
		p.unlink([]*heldPayload{before})
	}
	p.addLocked(next)
	return nil
}

// unlink removes the files of payloads that are not held any more.
func (p *payloads) unlink(out []*heldPayload) {
	for _, h := range out {
		if h.content == nil {
			_ = os.Remove(p.path(h)) // the next start tries again
		}
	}
}

// get returns a payload, nil if it is not here. One that is damaged is not.
func (p *payloads) get(digest payloadDigest) []byte {
	p.mu.Lock()
	h := p.held[digest]
	p.mu.Unlock()
	if h == nil {
		return nil
	}
	if h.content != nil {
		return h.content
	}
	content, err := os.ReadFile(p.path(h)) // of a file of ours; its size was looked at
	if err == nil && len(content) == h.size && sha256.Sum256(content) == digest {
		return content
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[digest] == h { // or it was kept for longer meanwhile, under another name
		p.removeLocked(h)
		p.unlink([]*heldPayload{h})
	}
	return nil
}

// expire removes what has expired.
func (p *payloads) expire(now time.Time) {
	p.mu.Lock()
	out := p.expireLocked(now)
	p.mu.Unlock()
	p.unlink(out)
}

// keepPayload keeps the payload of a client's event.
func (n *Node) keepPayload(event Event, payload []byte) error {
	if len(payload) != event.Size || sha256.Sum256(payload) != event.Digest {
		return ErrPayload
	}
	err := n.payloads.put(event.Digest, payload, event.Expires, n.now())
	if err != nil && !errors.Is(err, ErrBusy) {
		n.logger.Error("event not accepted", slog.String("event", event.Name), slog.Any("error", err))
	}
	return err
}
