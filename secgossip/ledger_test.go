package secgossip

import (
	"os"
	"testing"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// announcement is an epoch that keeper a said something about, with its secret.
type announcement struct {
	said         wire.Statement
	secret       []byte
	install, use *statement
}

func (c *cluster) announce(keeper *host, number uint64, issued time.Time) announcement {
	c.t.Helper()
	raw := make([]byte, keyring.SecretSize)
	raw[0], raw[1] = byte(number), byte(issued.Unix())
	secret := must(keyring.SecretFrom(append([]byte(nil), raw...)))(c.t)
	defer secret.Destroy()
	a := announcement{secret: raw, said: wire.Statement{
		Number: number, Previous: [32]byte{1}, Commitment: secret.Commitment(),
		Keeper: keeper.name, Issued: issued, Reason: "operator",
	}}
	sign := func(action wire.Action) *statement {
		s := a.said
		s.Action = action
		signed := must(wire.SignStatement(keeper.identity.Signing, c.root.Trust().Cluster(), s))(c.t)
		return &statement{Statement: s, raw: signed, credential: keeper.identity.Credential}
	}
	a.install, a.use = sign(wire.ActionInstall), sign(wire.ActionUse)
	return a
}

func (a announcement) request() wire.SecretRequest {
	return wire.SecretRequest{Number: a.said.Number, Commitment: a.said.Commitment}
}

func learn(h *host, all ...*statement) []wire.SecretRequest {
	var items [][]byte
	for _, s := range all {
		items = append(items, s.raw, s.credential)
	}
	return h.node.ledger.Learn(items)
}

func (h *host) install(a announcement) error {
	return h.node.ledger.Install(a.request(), append([]byte(nil), a.secret...))
}

func TestLateSecretOfAnOlderEpochRollsNothingBack(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host("a"), c.host("b")
		b.start()
		two, three := c.announce(a, 2, time.Now()), c.announce(a, 3, time.Now())
		learn(b, two.install, two.use, three.install, three.use)
		if err := b.install(three); err != nil {
			t.Fatal(err)
		}
		_ = b.install(two)
		if _, primary := b.node.EpochState(); primary != 3 {
			t.Errorf("b seals with epoch %d, want 3", primary)
		}
	})
}

func TestEpochsWhoseSecretNeverCameLockNobodyOut(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host("a"), c.host("b")
		b.start()
		var last announcement
		for number := uint64(2); number < 2+3*maxPending; number++ {
			last = c.announce(a, number, time.Now())
			learn(b, last.install, last.use)
		}
		if got := len(b.node.ledger.pending); got > maxPending {
			t.Errorf("b waits for %d epochs, at most %d", got, maxPending)
		}
		if err := b.install(last); err != nil {
			t.Fatal(err)
		}
		if _, primary := b.node.EpochState(); primary != last.said.Number || len(b.node.ledger.pending) > 0 {
			t.Errorf("b seals with epoch %d and waits for %d more", primary, len(b.node.ledger.pending))
		}
	})
}

// Whoever was away whenever an epoch was used holds those that were only installed, as
// many as fit. It takes in the next all the same.
func TestEpochsThatNobodyUsedLeaveRoomForTheNext(t *testing.T) {
	for _, used := range []bool{true, false} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a, b := c.host("a"), c.host("b")
			b.start()
			for number := uint64(2); number <= keyring.MaxEpochs; number++ {
				one := c.announce(a, 2*number, time.Now())
				learn(b, one.install)
				if err := b.install(one); err != nil {
					t.Fatal(err)
				}
			}
			if got := b.epochs(); got != "1* 4 6 8" {
				t.Fatalf("b holds %q: this is not the story", got)
			}
			if wanted := learn(b, c.announce(a, 3, time.Now()).install); len(wanted) > 0 {
				t.Errorf("b wants %v, for which it has no room", wanted)
			}
			last, want := c.announce(a, 10, time.Now()), "1* 6 8 10"
			learn(b, last.install)
			if used {
				learn(b, last.use)
				want = "10*"
			}
			if err := b.install(last); err != nil {
				t.Fatal(err)
			}
			if got := b.epochs(); got != want {
				t.Errorf("used %v: b holds %q, want %q", used, got, want)
			}
		})
	}
}

func TestFailedInstallCanBeRepeated(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host("a"), c.host("b")
		b.start()
		two := c.announce(a, 2, time.Now())
		learn(b, two.install, two.use)
		if err := os.Rename(b.state, b.state+".gone"); err != nil {
			t.Fatal(err)
		}
		if err := b.install(two); err == nil {
			t.Error("an epoch that is not on disk was installed")
		}
		if got := b.epochs(); got != "1*" {
			t.Errorf("after the failure b holds %q", got)
		}
		if err := os.Rename(b.state+".gone", b.state); err != nil {
			t.Fatal(err)
		}
		if err := b.install(two); err != nil {
			t.Fatal(err)
		}
		if _, primary := b.node.EpochState(); primary != 2 {
			t.Errorf("b seals with epoch %d, want 2", primary)
		}
		if _, err := b.file.Keyring().Primary().Secret.Derive(nil, []byte("test"), 32); err != nil {
			t.Errorf("the secret in use: %v", err)
		}
	})
}

func TestRotationGoesOnWithAnEpochLeftUnused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		for range 2 * keyring.MaxEpochs { // a keeper that is killed again and again
			if _, _, err := a.node.beginEpoch("operator"); err != nil {
				t.Fatal(err)
			}
		}
		rotation := c.rotate(a)
		if rotation.Epoch != 2 || !rotation.Removed || rotation.Using != 3 {
			t.Errorf("rotation ended as %+v", rotation)
		}
		if got := b.epochs(); got != "2*" {
			t.Errorf("b holds %q, want %q", got, "2*")
		}
	})
}

// Two keepers took the same number: what one says about its epoch is not about
// the other's.
func TestStatementsMeanTheirOwnEpochOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host("a"), c.host("b")
		b.start()
		mine := c.announce(a, 2, time.Now())
		other := c.announce(a, 2, time.Now().Add(time.Second))
		learn(b, mine.install)
		if err := b.install(mine); err != nil {
			t.Fatal(err)
		}
		learn(b, other.install, other.use)
		if got := b.epochs(); got != "1* 2" {
			t.Errorf("b holds %q: it was moved by words about another epoch", got)
		}
		learn(b, mine.use)
		if got := b.epochs(); got != "1 2*" {
			t.Errorf("b holds %q, want %q", got, "1 2*")
		}
	})
}

// An expired keeper dates its statement back to when it was none.
func TestStatementFromBeforeTheEpochInUseIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host("a"), c.host("b")
		time.Sleep(2 * maxFork)
		b.start()
		two := c.announce(a, 2, time.Now())
		learn(b, two.install, two.use)
		if err := b.install(two); err != nil {
			t.Fatal(err)
		}
		if wanted := learn(b, c.announce(a, 3, time.Now().Add(-maxFork-time.Minute)).install); len(wanted) > 0 {
			t.Errorf("b wants %v", wanted)
		}
		if wanted := learn(b, c.announce(a, 3, time.Now()).install); len(wanted) != 1 {
			t.Errorf("b wants %v, want epoch 3", wanted)
		}
	})
}

// A keeper gone wrong cannot use up the numbers.
func TestEpochFarAheadIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.host("a"), c.host("b")
		b.start()
		for _, number := range []uint64{1 + maxAhead + 1, 1 << 63, 1<<64 - 1} {
			if wanted := learn(b, c.announce(a, number, time.Now()).install); len(wanted) > 0 {
				t.Errorf("b wants epoch %d, and holds epoch 1", number)
			}
		}
		far := c.announce(a, 1+maxAhead, time.Now())
		learn(b, far.install, far.use)
		if err := b.install(far); err != nil {
			t.Fatal(err)
		}
		if got := b.node.ledger.next(); got != 1+maxAhead+1 {
			t.Errorf("the next epoch is %d", got)
		}
	})
}
