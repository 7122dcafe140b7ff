package guard

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func TestRosterHoldsWhatANodeSaysAboutItself(t *testing.T) {
	c := newCluster(t, "demo", "root")
	a := c.node(t, "a", "a", testNow)
	var told []string
	r := NewRoster(c.trust, func(old, new *Peer) {
		was := "nobody"
		if old != nil {
			was = fmt.Sprint(old.Record.Sequence)
		}
		told = append(told, fmt.Sprintf("%s: %s, then %d", new.Name, was, new.Record.Sequence))
	})
	raw := a.signed(1)
	peer := mustAdmit(t, r, raw)
	if peer.Name != "a" || peer.Key() != [32]byte(publicOf(a.key)) || peer.Digest != sha256.Sum256(raw) || !bytes.Equal(peer.Raw, raw) {
		t.Errorf("admitted %+v", peer)
	}
	if r.Get("a") != peer || r.At(peer.Virtual.Addr()) != peer || r.Get("b") != nil || r.At(netip.Addr{}) != nil {
		t.Error("the node is not found by its name and its address, or something else is")
	}
	second := mustAdmit(t, r, a.signed(2))
	if r.Get("a") != second || r.At(peer.Virtual.Addr()) != second || len(r.All()) != 1 {
		t.Error("the newer record did not take the place of the older one")
	}
	if want := []string{"a: nobody, then 1", "a: 1, then 2"}; fmt.Sprint(told) != fmt.Sprint(want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestRecordThatIsNotTheNodesOwnIsRefused(t *testing.T) {
	c, other := newCluster(t, "demo", "root"), newCluster(t, "demo", "another root")
	a, b := c.node(t, "a", "a", testNow), c.node(t, "b", "b", testNow)
	client, err := c.root.Client(pki.ClientRequest{Name: "a", SigningKey: publicOf(a.key)}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	expired, err := c.root.Node(pki.NodeRequest{
		Name: "a", SigningKey: publicOf(a.key), AgreementKey: [32]byte{9}, Life: time.Hour,
	}, testNow.Add(-23*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*wire.Record)) wire.Record {
		r := a.record(2)
		change(&r)
		return r
	}
	for claim, test := range map[string]struct {
		raw  []byte
		want error
	}{
		"nothing":                        {nil, ErrMalformed},
		"no record":                      {[]byte("hello"), ErrMalformed},
		"a byte after its end":           {append(a.signed(2), 0), ErrMalformed},
		"a name in capitals":             {sign(t, a.key, c, with(func(r *wire.Record) { r.Name = "A" })), ErrMalformed},
		"a name with a line feed":        {sign(t, a.key, c, with(func(r *wire.Record) { r.Name = "a\nb" })), ErrMalformed},
		"signed by another member":       {sign(t, b.key, c, a.record(2)), ErrForged},
		"another member's credential":    {sign(t, b.key, c, with(func(r *wire.Record) { r.Credential = b.credential })), ErrForged},
		"own key, another's credential":  {sign(t, a.key, c, with(func(r *wire.Record) { r.Credential = b.credential })), ErrForged},
		"a client's credential":          {sign(t, a.key, c, with(func(r *wire.Record) { r.Credential = client.Credential })), ErrForged},
		"signed for another cluster":     {sign(t, a.key, other, a.record(2)), ErrForged},
		"another cluster's node":         {other.node(t, "a", "a", testNow).signed(2), pki.ErrUnknownSigner},
		"a credential that is none":      {sign(t, a.key, c, with(func(r *wire.Record) { r.Credential = []byte("x") })), pki.ErrProfile},
		"a credential that has expired":  {sign(t, a.key, c, with(func(r *wire.Record) { r.Credential = expired.Credential })), pki.ErrExpired},
		"a credential that is of future": {c.node(t, "a", "a", testNow.Add(time.Hour)).signed(2), pki.ErrNotYetValid},
	} {
		for _, first := range []bool{true, false} {
			r := NewRoster(c.trust, nil)
			if !first {
				mustAdmit(t, r, a.signed(1))
			}
			held := r.Get("a")
			peer, err := r.Admit(test.raw, testNow)
			if !errors.Is(err, test.want) || peer != nil {
				t.Errorf("%s: got %v and %v, want %v", claim, peer, err, test.want)
			}
			if r.Get("a") != held {
				t.Errorf("%s: it changed the roster", claim)
			}
		}
	}
}

// Every bit is flipped where the parser and the signature are tested; one in each
// byte shows that the roster asks both.
func TestDamagedRecordIsRefused(t *testing.T) {
	c := newCluster(t, "demo", "root")
	raw := c.node(t, "a", "a", testNow).signed(1)
	r := NewRoster(c.trust, nil)
	for i := range raw {
		damaged := bytes.Clone(raw)
		damaged[i] ^= 1 << (i % 8)
		if _, err := r.Admit(damaged, testNow); err == nil {
			t.Fatalf("admitted with byte %d changed", i)
		}
	}
	for n := range raw {
		if _, err := r.Admit(raw[:n], testNow); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%d of %d bytes: got %v, want ErrMalformed", n, len(raw), err)
		}
	}
	if len(r.All()) != 0 {
		t.Errorf("the roster holds %d nodes", len(r.All()))
	}
}

func TestRecordHeldAlreadyCostsNoSignature(t *testing.T) {
	c := newCluster(t, "demo", "root")
	a := c.node(t, "a", "a", testNow)
	changes := 0
	r := NewRoster(c.trust, func(_, _ *Peer) { changes++ })
	first := mustAdmit(t, r, a.signed(5))
	// The same bytes at a time when the credential verifies no more: they were
	// not looked at.
	again, err := r.Admit(a.signed(5), testNow.Add(1000*time.Hour))
	if err != nil || again != first {
		t.Errorf("got %p, %v, want the node held, %p", again, err, first)
	}
	if changes != 1 {
		t.Errorf("%d changes, want 1", changes)
	}
	// An older one with a signature that is wrong is old before it is forged.
	held, err := r.Admit(sign(t, testKey("nobody"), c, a.record(4)), testNow)
	if !errors.Is(err, ErrStale) || held != first {
		t.Errorf("got %v, %v, want the node held and ErrStale", held, err)
	}
}

func TestOlderRecordIsRefused(t *testing.T) {
	c := newCluster(t, "demo", "root")
	a := c.node(t, "a", "a", testNow)
	renewed := c.node(t, "a", "a", testNow.Add(time.Minute)) // the same key, a newer credential
	moved := a.record(5)
	moved.Endpoints = []netip.AddrPort{netip.MustParseAddrPort("203.0.113.9:7946")}
	for claim, raw := range map[string][]byte{
		"a lower sequence":                           a.signed(4),
		"the first sequence":                         a.signed(1),
		"the same sequence, other content":           sign(t, a.key, c, moved),
		"the same sequence under a newer credential": renewed.signed(5),
		"a lower sequence under a newer credential":  renewed.signed(4),
	} {
		r := NewRoster(c.trust, nil)
		held := mustAdmit(t, r, a.signed(5))
		peer, err := r.Admit(raw, testNow)
		if !errors.Is(err, ErrStale) || peer != held || r.Get("a") != held {
			t.Errorf("%s: got %v, %v, want the node held and ErrStale", claim, peer, err)
		}
	}
}

func TestSequenceIsAtMostAYearAhead(t *testing.T) {
	c := newCluster(t, "demo", "root")
	a := c.node(t, "a", "a", testNow)
	r := NewRoster(c.trust, nil)
	most := uint64(testNow.Add(maxAhead).UnixMilli())
	for _, sequence := range []uint64{math.MaxInt64, most + 1} {
		if _, err := r.Admit(a.signed(sequence), testNow); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d: got %v, want ErrMalformed", sequence, err)
		}
	}
	mustAdmit(t, r, a.signed(most))
}

func TestForgottenRecordIsNotTakenAgainAndALaterLifeIs(t *testing.T) {
	c := newCluster(t, "demo", "root")
	a := c.node(t, "a", "a", testNow)
	r := NewRoster(c.trust, nil)
	peer := mustAdmit(t, r, a.signed(5))
	r.Forget("a", testNow)
	if r.Get("a") != nil || r.At(peer.Virtual.Addr()) != nil {
		t.Error("the node is still there")
	}
	for _, sequence := range []uint64{4, 5} {
		if _, err := r.Admit(a.signed(sequence), testNow); !errors.Is(err, ErrStale) {
			t.Errorf("sequence %d: got %v, want ErrStale", sequence, err)
		}
	}
	later := a.record(3) // it started again with its clock set back
	later.Boot[0]++
	mustAdmit(t, r, sign(t, a.key, c, later))
	r.Forget("a", testNow)
	mustAdmit(t, r, a.signed(6))
}

func TestHigherSequenceWinsUnderOneKey(t *testing.T) {
	c := newCluster(t, "demo", "root")
	renewed := c.node(t, "a", "a", testNow)
	before := c.node(t, "a", "a", testNow.Add(-time.Hour))
	r := NewRoster(c.trust, nil)
	mustAdmit(t, r, renewed.signed(1))
	// Even with the credential from before its renewal: the node chose it.
	mustAdmit(t, r, before.signed(2))
	peer := mustAdmit(t, r, renewed.signed(uint64(testNow.Add(maxAhead).UnixMilli())))
	if r.Get("a") != peer {
		t.Error("the highest sequence was not taken in")
	}
}

func TestKeyIssuedLaterWinsWhateverTheSequence(t *testing.T) {
	c := newCluster(t, "demo", "root")
	was := c.node(t, "a", "a", testNow.Add(-time.Hour))
	now := c.node(t, "a", "a set up again", testNow)
	twin := c.node(t, "a", "a twin", testNow) // of the same second
	r := NewRoster(c.trust, nil)
	mustAdmit(t, r, was.signed(1_000_000))
	peer := mustAdmit(t, r, now.signed(1))
	for claim, raw := range map[string][]byte{
		"the key before":                        was.signed(1_000_000),
		"the key before with a higher sequence": was.signed(2_000_000),
		"a key of the same second":              twin.signed(2),
	} {
		if held, err := r.Admit(raw, testNow); !errors.Is(err, ErrStale) || held != peer {
			t.Errorf("%s: got %v, %v, want the node held and ErrStale", claim, held, err)
		}
	}
	if r.Get("a").Key() != [32]byte(publicOf(now.key)) {
		t.Error("the roster does not hold the key issued last")
	}
}

// Who was revoked stays known and is passed on no more, so that two rosters of which
// one never let it in have nothing to tell each other.
func TestRevokedNodeIsNotPassedOn(t *testing.T) {
	c := newCluster(t, "demo", "root")
	with, without := NewRoster(c.trust, nil), NewRoster(c.trust, nil)
	a, b := c.node(t, "a", "a", testNow), c.node(t, "b", "b", testNow)
	for _, r := range []*Roster{with, without} {
		mustAdmit(t, r, a.signed(1))
	}
	gone := mustAdmit(t, with, b.signed(1))
	c.trust.SetRevoked(func(kind pki.Kind, name pki.Name, _ ed25519.PublicKey, _ time.Time) bool {
		return kind == pki.KindNode && name == "b"
	})
	if !with.Revoked(gone) || with.Get("b") != gone || len(with.All()) != 2 {
		t.Error("the revoked node is not known any more")
	}
	if got := with.Valid(); len(got) != 1 || got[0].Name != "a" || with.Digest() != without.Digest() {
		t.Errorf("%d nodes are passed on, want a alone", len(got))
	}
}

func TestRosterIsFullAt4096Nodes(t *testing.T) {
	c := newCluster(t, "demo", "root")
	r := NewRoster(c.trust, nil)
	a := c.node(t, "a", "a", testNow)
	mustAdmit(t, r, a.signed(1))
	for i := range wire.MaxRecords - 1 {
		// Verifying thousands of records would show the same and take a second.
		name := pki.Name(fmt.Sprintf("n%d", i))
		if !r.put(&Peer{Name: name, Credential: new(pki.Credential), Virtual: VirtualAddr(c.trust.Cluster(), name)}) {
			t.Fatalf("full at %d", i+1)
		}
	}
	digest := r.Digest()
	if peer, err := r.Admit(c.node(t, "b", "b", testNow).signed(1), testNow); !errors.Is(err, ErrFull) || peer != nil {
		t.Errorf("one more: got %v, %v, want ErrFull", peer, err)
	}
	if r.Digest() != digest || r.Get("b") != nil || len(r.All()) != wire.MaxRecords {
		t.Error("the roster changed")
	}
	if _, err := r.Admit(a.signed(2), testNow); err != nil {
		t.Errorf("a newer record of a node it holds: %v", err)
	}
}

// Run with the race detector.
func TestRecordsMayComeFromAllSidesAtOnce(t *testing.T) {
	c := newCluster(t, "demo", "root")
	var last sync.Map // the sequence of the latest change, by node
	r := NewRoster(c.trust, func(old, new *Peer) {
		was := uint64(0)
		if old != nil {
			was = old.Record.Sequence
		}
		before, _ := last.Swap(new.Name, new.Record.Sequence)
		if before == nil {
			before = uint64(0)
		}
		if was != before || new.Record.Sequence <= was {
			t.Errorf("%s went from %d to %d; the change before led to %d", new.Name, was, new.Record.Sequence, before)
		}
	})
	const sequences = 8
	var records [][]byte
	for _, name := range []pki.Name{"a", "b", "d"} {
		n := c.node(t, name, string(name), testNow)
		for sequence := range uint64(sequences) {
			records = append(records, n.signed(sequence+1))
		}
	}
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for _, raw := range records {
				if peer, err := r.Admit(raw, testNow); peer == nil || err != nil && !errors.Is(err, ErrStale) {
					t.Errorf("got %v, %v", peer, err)
				}
				r.All()
				r.Digest()
				r.CheckAlive("a", nil, 0)
			}
		})
	}
	running.Wait()
	for _, p := range r.All() {
		if p.Record.Sequence != sequences {
			t.Errorf("%s ended at %d, want %d", p.Name, p.Record.Sequence, sequences)
		}
	}
}

func TestSameRecordFromTwoSidesIsNewsOnce(t *testing.T) {
	c := newCluster(t, "demo", "root")
	raw := c.node(t, "a", "a", testNow).signed(1)
	changes := 0
	r := NewRoster(c.trust, func(_, _ *Peer) { changes++ })
	signed, err := wire.ParseRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	var first *Peer
	for i := range 2 {
		peer, err := r.verify("a", signed, testNow) // before either has settled
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = peer
		}
		if got, err := r.settle(peer); err != nil || got != first {
			t.Errorf("got %p, %v, want the first one, %p: a record already held is no error", got, err, first)
		}
	}
	if changes != 1 {
		t.Errorf("%d changes, want 1", changes)
	}
}

func TestDigestsAreEqualWhenRostersAre(t *testing.T) {
	c := newCluster(t, "demo", "root")
	a, b := c.node(t, "a", "a", testNow), c.node(t, "b", "b", testNow)
	one, other := NewRoster(c.trust, nil), NewRoster(c.trust, nil)
	empty := one.Digest()
	mustAdmit(t, one, a.signed(1))
	mustAdmit(t, one, b.signed(1))
	mustAdmit(t, other, b.signed(1))
	if one.Digest() == other.Digest() || other.Digest() == empty {
		t.Error("rosters that differ have one digest")
	}
	mustAdmit(t, other, a.signed(1))
	if one.Digest() != other.Digest() {
		t.Error("rosters with the same nodes have two digests")
	}
	mustAdmit(t, other, a.signed(2))
	if one.Digest() == other.Digest() {
		t.Error("a newer record does not show")
	}
}

func TestNodeIsBelievedAliveAtItsOwnAddressOnly(t *testing.T) {
	c := newCluster(t, "demo", "root")
	r := NewRoster(c.trust, nil)
	a := mustAdmit(t, r, c.node(t, "a", "a", testNow).signed(1))
	b := mustAdmit(t, r, c.node(t, "b", "b", testNow).signed(1))
	own := net.IP(a.Virtual.Addr().AsSlice())
	if err := r.CheckAlive("a", own, VirtualPort); err != nil {
		t.Errorf("a at its own address: %v", err)
	}
	for claim, test := range map[string]struct {
		name string
		ip   net.IP
		port uint16
		want error
	}{
		"a node without a record": {"d", own, VirtualPort, ErrUnknownNode},
		"no name":                 {"", own, VirtualPort, ErrUnknownNode},
		"a name in capitals":      {"A", own, VirtualPort, ErrUnknownNode},
		"another's address":       {"a", b.Virtual.Addr().AsSlice(), VirtualPort, ErrForged},
		"a real address":          {"a", net.IPv4(203, 0, 113, 1), VirtualPort, ErrForged},
		"no address":              {"a", nil, VirtualPort, ErrForged},
		"part of the address":     {"a", own[:4], VirtualPort, ErrForged},
		"another port":            {"a", own, VirtualPort + 1, ErrForged},
		"no port":                 {"a", own, 0, ErrForged},
	} {
		if err := r.CheckAlive(test.name, test.ip, test.port); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", claim, err, test.want)
		}
	}
}
