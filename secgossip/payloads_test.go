package secgossip

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// aPayload is one of many, of the given size.
func aPayload(number, size int) []byte {
	return append(bytes.Repeat([]byte{'x'}, size-8), fmt.Sprintf("%08d", number)...)
}

// signer is one of ten clients, by the last digit of a payload.
func signer(content []byte) [32]byte { return [32]byte{content[len(content)-1]} }

func (p *payloads) mustPut(t *testing.T, content []byte, expires, now time.Time) payloadDigest {
	t.Helper()
	digest := sha256.Sum256(content)
	if err := p.put(signer(content), digest, content, expires, now); err != nil {
		t.Fatal(err)
	}
	return digest
}

func files(t *testing.T, folder string) (names []string) {
	t.Helper()
	for _, entry := range must(os.ReadDir(folder))(t) {
		names = append(names, entry.Name())
	}
	return names
}

// However many there are, in memory or on disk: what is new is kept and spread, or its
// client is told that the node is busy.
func TestPayloadsAreBounded(t *testing.T) {
	for _, folder := range []string{"", t.TempDir()} {
		now := time.Unix(1_800_000_000, 0)
		p := newPayloads(folder)
		p.most = 16
		var digests []payloadDigest
		for i := range p.most {
			digests = append(digests, p.mustPut(t, aPayload(i, 1000), now.Add(time.Hour), now.Add(time.Duration(i)*time.Millisecond)))
		}
		one := aPayload(1000, 1000)
		late := now.Add(payloadAge - time.Millisecond)
		if err := p.put(signer(one), sha256.Sum256(one), one, late.Add(time.Hour), late); !errors.Is(err, ErrBusy) || p.room(signer(one), 1000, late) {
			t.Errorf("one more: got %v, and room is %t; want ErrBusy", err, p.room(signer(one), 1000, late))
		}
		p.mustPut(t, aPayload(3, 1000), now.Add(2*time.Hour), late) // one that is there is kept for longer
		later := now.Add(payloadAge)
		if !p.room(signer(one), 1000, later) {
			t.Error("after a minute there is no room for another")
		}
		digest := p.mustPut(t, one, later.Add(time.Hour), later)
		if p.has(digests[0], 1000) || !p.has(digests[1], 1000) || !p.has(digest, 1000) || len(p.held) != p.most || p.ages.Len() != p.most {
			t.Errorf("%d are held; want %d, and of the oldest that one is gone", len(p.held), p.most)
		}
		if got := p.get(digest); !bytes.Equal(got, one) {
			t.Errorf("got %d bytes, want those that were put", len(got))
		}
		p.expire(now.Add(time.Hour))
		if len(p.held) != 2 || !p.has(digests[3], 1000) || p.bytes != 2000 {
			t.Errorf("%d of %d bytes are held when the others have expired, want 2", len(p.held), p.bytes)
		}
		if folder != "" && len(files(t, folder)) != 2 {
			t.Errorf("there are the files %q, want 2", files(t, folder))
		}
	}
}

func TestPayloadsOfOneMiBAreBoundedToo(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	p := newPayloads("")
	content := make([]byte, wire.MaxLargePayload)
	for i := range maxPayloadBytes >> 20 {
		if err := p.put([32]byte{byte(i % 2)}, payloadDigest{byte(i)}, content, now.Add(time.Hour), now); err != nil {
			t.Fatal(err)
		}
	}
	if p.bytes != maxPayloadBytes || p.room([32]byte{1}, 600, now) {
		t.Errorf("%d bytes are held, and there is room for more: %t", p.bytes, p.room([32]byte{1}, 600, now))
	}
}

// Threat C10: by number or by size, in memory or on disk, one client leaves room for
// others, and what is new of it takes the place of what is old of it.
func TestClientThatFillsThePayloadsLeavesRoomForOthers(t *testing.T) {
	flood, other := [32]byte{1}, [32]byte{2}
	for claim, bound := range map[string]func(*payloads){
		"by number": func(p *payloads) { p.most = 16 },
		"by size":   func(p *payloads) { p.mostBytes = 16_000 },
	} {
		folder := t.TempDir()
		now := time.Unix(1_800_000_000, 0)
		p := newPayloads(folder)
		bound(p)
		number := 0
		put := func(client [32]byte) (payloadDigest, error) {
			content := aPayload(number, 1000)
			number++
			digest := sha256.Sum256(content)
			return digest, p.put(client, digest, content, now.Add(time.Hour), now)
		}
		spare := must(put(other))(t)
		oldest := must(put(flood))(t)
		for i := 1; i < 16; i++ {
			_, err := put(flood)
			if busy := errors.Is(err, ErrBusy); busy != (i >= 12) || p.room(flood, 1000, now) != (i < 11) {
				t.Errorf("%s: payload %d of one client: %v, and there is room for more: %t", claim, i, err, p.room(flood, 1000, now))
			}
		}
		for i := 1; i < 4; i++ {
			if _, err := put(other); err != nil {
				t.Errorf("%s: payload %d of another: %v", claim, i, err)
			}
		}
		if _, err := put(other); !errors.Is(err, errPayloadsFull) {
			t.Errorf("%s: one more of the other: got %v, want %v", claim, err, errPayloadsFull)
		}
		now = now.Add(payloadAge)
		if _, err := put(flood); err != nil || !p.has(spare, 1000) || p.has(oldest, 1000) {
			t.Errorf("%s: a minute later one more: %v; the other's oldest is there: %t, and its own: %t", claim, err, p.has(spare, 1000), p.has(oldest, 1000))
		}
		// Nobody knows whose are there after a restart.
		p = newPayloads(folder)
		bound(p)
		if err := p.load(now); err != nil {
			t.Fatal(err)
		}
		if _, err := put(flood); !errors.Is(err, errPayloadsFull) {
			t.Errorf("%s: after a restart: got %v, want %v", claim, err, errPayloadsFull)
		}
		now = now.Add(payloadAge)
		for i := range 16 {
			if _, err := put(flood); (err == nil) != (i < 12) {
				t.Errorf("%s: a minute after a restart payload %d: %v", claim, i, err)
			}
		}
	}
}

// A start finds what was kept, removes what is of no use, and gives nothing that is
// damaged.
func TestPayloadsOutliveARestart(t *testing.T) {
	folder := t.TempDir()
	now := time.Unix(1_800_000_000, 0)
	p := newPayloads(folder)
	kept := p.mustPut(t, aPayload(1, 600), now.Add(time.Hour), now)
	damaged := p.mustPut(t, aPayload(2, 600), now.Add(time.Hour), now)
	p.mustPut(t, aPayload(3, 600), now.Add(time.Minute), now)
	path := p.path(p.held[damaged])
	content := must(os.ReadFile(path))(t)
	content[0] ^= 1
	for name, content := range map[string][]byte{
		filepath.Base(path):                          content,
		"payload-00-1":                               []byte("no digest"),
		"payload-" + strings.Repeat("0", 64):         []byte("no time"),
		filepath.Base(path) + ".new":                 []byte("cut short"),
		filepath.Base(path)[:70] + "-99999999999999": make([]byte, wire.MaxLargePayload+1),
		"nodes": []byte("another's"),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := newPayloads(folder)
	if err := again.load(now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := again.get(kept); !bytes.Equal(got, aPayload(1, 600)) {
		t.Errorf("of what was kept there are %d bytes", len(got))
	}
	if got := again.get(damaged); got != nil || again.has(damaged, 600) {
		t.Errorf("of what is damaged %d bytes are given", len(got))
	}
	if got := files(t, folder); len(got) != 2 {
		t.Errorf("there are the files %q, want one payload and the other's", got)
	}
}

func TestPayloadThatCannotBeWrittenIsNotThere(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	p := newPayloads(filepath.Join(t.TempDir(), "gone"))
	content := aPayload(1, 600)
	if err := p.put(signer(content), sha256.Sum256(content), content, now.Add(time.Hour), now); err == nil || errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want what writing gave", err)
	}
	if p.has(sha256.Sum256(content), 600) {
		t.Error("it is there all the same")
	}
}

// What is read as the name of a payload is what it is written as.
func FuzzPayloadNameIsWrittenBackTheSame(f *testing.F) {
	f.Add((&heldPayload{digest: payloadDigest{1}, expires: time.UnixMilli(1_800_000_000_000)}).name())
	f.Add("payload-" + strings.Repeat("0", 64) + "-+1")
	f.Add("payload-" + strings.Repeat("A", 64) + "-1")
	f.Add("payload--")
	f.Fuzz(func(t *testing.T, name string) {
		if h, err := parsePayloadName(name); err == nil && h.name() != name {
			t.Errorf("%q is read as %q", name, h.name())
		}
	})
}
