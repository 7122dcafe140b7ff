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
	client  [32]byte // who signed its event; zero, which no key is: found at the start
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

// errPayloadsOfOne means that those of one client do. It is ErrBusy.
var errPayloadsOfOne = fmt.Errorf("%w: one client's payloads of the last minute are %d or have %d MiB", ErrBusy,
	payloadsOfOne(maxPayloads), payloadsOfOne(maxPayloadBytes>>20))

// payloadsOfOne is how much of a bound is one client's at most. What was found at the start
// is in nobody's share, for nobody knows whose it is: it is safe for a minute, as everything
// is, and for that long a client may have more than its share.
func payloadsOfOne(most int) int { return most * 3 / 4 }

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

// room reports whether one more payload of this size can be kept for a client.
func (p *payloads) room(client [32]byte, size int, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.roomLocked(client, size, now) == nil
}

// roomLocked says why there is none.
//
// Threat C10: one client, whatever it fires, leaves room for others.
func (p *payloads) roomLocked(client [32]byte, size int, now time.Time) error {
	all, own := p.filledLocked(client, func(h *heldPayload) bool { return !h.spare(now) })
	switch {
	case p.fullOfOne(own, size):
		return errPayloadsOfOne
	case p.full(all, size):
		return errPayloadsFull
	}
	return nil
}

// filled is what some payloads take.
type filled struct{ count, bytes int }

func (f *filled) add(h *heldPayload) { f.count, f.bytes = f.count+1, f.bytes+h.size }

func (f *filled) remove(h *heldPayload) { f.count, f.bytes = f.count-1, f.bytes-h.size }

// filledLocked is what those payloads take that count, and a client's among them.
func (p *payloads) filledLocked(client [32]byte, counts func(*heldPayload) bool) (all, own filled) {
	for _, h := range p.held {
		if !counts(h) {
			continue
		}
		all.add(h)
		if h.client == client {
			own.add(h)
		}
	}
	return all, own
}

// full reports whether one more of this size is too much.
func (p *payloads) full(all filled, size int) bool {
	return all.count >= p.most || all.bytes+size > p.mostBytes
}

func (p *payloads) fullOfOne(own filled, size int) bool {
	return own.count >= payloadsOfOne(p.most) || own.bytes+size > payloadsOfOne(p.mostBytes)
}

// spare reports whether a payload may go for a newer one.
func (h *heldPayload) spare(now time.Time) bool {
	return !now.Before(h.expires) || now.Sub(h.since) >= payloadAge
}

// makeRoomLocked takes out what has expired and, if that makes room, the oldest ones of
// which there are too many: first of the client's own.
func (p *payloads) makeRoomLocked(client [32]byte, size int, now time.Time) ([]*heldPayload, error) {
	out := p.expireLocked(now)
	if err := p.roomLocked(client, size, now); err != nil {
		return out, err
	}
	all, own := p.filledLocked(client, func(*heldPayload) bool { return true })
	take := func(goes func(*heldPayload) bool) {
		for e := p.ages.Front(); e != nil; {
			h := e.Value.(*heldPayload)
			e = e.Next()
			if !h.spare(now) || !goes(h) {
				continue
			}
			p.removeLocked(h)
			out = append(out, h)
			all.remove(h)
			if h.client == client {
				own.remove(h)
			}
		}
	}
	take(func(h *heldPayload) bool { return h.client == client && p.fullOfOne(own, size) })
	take(func(*heldPayload) bool { return p.full(all, size) })
	return out, nil
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

// put keeps a payload whose digest was checked, until its event expires, for the client
// that signed the event. On return it is on disk. Errors: ErrBusy, and what writing gives.
func (p *payloads) put(client [32]byte, digest payloadDigest, content []byte, expires, now time.Time) error {
	patience := time.NewTimer(payloadWait)
	defer patience.Stop()
	select {
	case <-p.turn:
		defer func() { p.turn <- struct{}{} }()
	case <-patience.C:
		return ErrBusy
	}
	next := &heldPayload{digest: digest, client: client, size: len(content), expires: expires, since: now}
	p.mu.Lock()
	before := p.held[digest]
	if before != nil && !before.expires.Before(expires) {
		p.mu.Unlock()
		return nil
	}
	out, err := p.makeRoomLocked(client, len(content), now)
	p.mu.Unlock()
	p.unlink(out)
	if err != nil && before == nil {
		return err
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
	err := n.payloads.put(event.ClientKey, event.Digest, payload, event.Expires, n.now())
	if err != nil && !errors.Is(err, ErrBusy) {
		n.logger.Error("event not accepted", slog.String("event", event.Name), slog.Any("error", err))
	}
	return err
}
