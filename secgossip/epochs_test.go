package secgossip

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// epochs is which epochs a host holds: "1 2*", the primary with a star.
func (h *host) epochs() string {
	var out []string
	for _, e := range h.node.Epochs() {
		text := fmt.Sprint(e.Number)
		if e.Primary {
			text += "*"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func (c *cluster) rotate(h *host) Rotation {
	c.t.Helper()
	return must(h.node.Rotate(c.t.Context(), func(Progress) {}))(c.t)
}

func TestRotationReachesEveryNode(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		var steps []string
		rotation, err := a.node.Rotate(t.Context(), func(p Progress) { steps = append(steps, p.Node+" "+string(p.Step)) })
		if err != nil {
			t.Fatal(err)
		}
		if rotation.Epoch != 2 || rotation.Previous != 1 || rotation.Using != 3 || len(rotation.Missing) > 0 || !rotation.Removed {
			t.Errorf("rotation ended as %+v", rotation)
		}
		for _, h := range []*host{a, b, d} {
			if got := h.epochs(); got != "2*" {
				t.Errorf("%s holds %q, want %q", h.name, got, "2*")
			}
		}
		if len(steps) != 9 || !slices.Contains(steps, "d using") {
			t.Errorf("reported %q", steps)
		}
		time.Sleep(time.Minute)
		if got, want := b.statuses(), "a alive, b alive, d alive"; got != want {
			t.Errorf("after it b sees %q, want %q", got, want)
		}
	})
}

func TestNoEventIsLostInRotations(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		client := c.client("memo", "event:*")
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 100 {
				if err := client.fire(b, "tick", fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		for range 3 {
			time.Sleep(200 * time.Millisecond)
			c.rotate(a)
		}
		<-done
		c.settle()
		for _, h := range []*host{a, b, d} {
			if got := len(h.seen.names()); got != 100 {
				t.Errorf("%s got %d events, want 100", h.name, got)
			}
		}
	})
}

// The best-known gripe about gossip encryption: a node that was away when the
// key changed never comes back. Ours does, from any number of rotations.
func TestNodeThatMissedRotationsComesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		d.crash()
		time.Sleep(time.Minute)
		for range 5 {
			c.rotate(a)
		}
		a.stop() // not even the keeper is needed
		d.start().join(b)
		c.settle()
		if got := d.epochs(); got != "6*" {
			t.Errorf("d holds %q, want %q", got, "6*")
		}
		if err := c.client("memo", "event:*").fire(b, "deploy", "v1"); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if got := d.seen.names(); !slices.Equal(got, []string{"deploy:v1"}) {
			t.Errorf("d got %q: it is not heard", got)
		}
	})
}

// It comes back by itself, too: nobody tells it whom to join.
func TestRestartedNodeFindsTheClusterByItself(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		time.Sleep(time.Minute)
		d.stop()
		time.Sleep(time.Minute)
		c.rotate(a)
		d.start()
		c.settle()
		if got, want := d.statuses(), "a alive, b alive, d alive"; got != want {
			t.Errorf("d sees %q, want %q", got, want)
		}
		if got := d.epochs(); got != "2*" {
			t.Errorf("d holds %q, want %q", got, "2*")
		}
		_ = b
	})
}

func TestNewcomerWithAnOldKeyringJoins(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		late := c.host("late") // its home holds epoch 1
		c.rotate(a)
		c.rotate(a)
		late.start().join(b)
		c.settle()
		if got := late.epochs(); got != "3*" {
			t.Errorf("the newcomer holds %q, want %q", got, "3*")
		}
		if got, want := a.statuses(), "a alive, b alive, d alive, late alive"; got != want {
			t.Errorf("a sees %q, want %q", got, want)
		}
	})
}

// d lives and cannot put the epoch on disk: its disk is full, say. It keeps the
// old epoch, and so does everybody, until it can.
func TestRotationNamesLiveNodesThatDidNotFollow(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		if err := os.Rename(d.state, d.state+".gone"); err != nil {
			t.Fatal(err)
		}
		rotation := c.rotate(a)
		if !slices.Equal(rotation.Missing, []string{"d"}) || rotation.Using != 2 || rotation.Removed {
			t.Errorf("rotation ended as %+v", rotation)
		}
		for _, h := range []*host{a, b} {
			if got := h.epochs(); got != "1 2*" {
				t.Errorf("%s holds %q, want both epochs while d needs the old one", h.name, got)
			}
		}
		if got, want := b.statuses(), "a alive, b alive, d alive"; got != want {
			t.Errorf("b sees %q, want %q", got, want)
		}
		if err := os.Rename(d.state+".gone", d.state); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if _, primary := d.node.EpochState(); primary != 2 {
			t.Errorf("d seals with epoch %d, want 2", primary)
		}
	})
}

func TestRotationNamesFailedNodes(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, _, d := c.three()
		d.crash()
		time.Sleep(time.Minute)
		rotation := c.rotate(a)
		if !slices.Equal(rotation.Missing, []string{"d"}) || rotation.Using != 2 || !rotation.Removed {
			t.Errorf("rotation ended as %+v", rotation)
		}
	})
}

func TestOnlyAKeeperRotates(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		_, b, _ := c.three()
		_, err := b.node.Rotate(t.Context(), func(Progress) {})
		if !errors.Is(err, ErrNotKeeper) || !strings.Contains(err.Error(), "a") {
			t.Errorf("got %v, want ErrNotKeeper and the keepers' names", err)
		}
		if got := b.epochs(); got != "1*" {
			t.Errorf("b holds %q, want %q", got, "1*")
		}
	})
}

// Threat C09: a member that is no keeper, or a keeper's statement altered,
// changes nobody's keyring.
func TestStatementsOfOthersThanKeepersAreIgnored(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		secret := must(keyring.NewSecret())(t)
		defer secret.Destroy()
		said := wire.Statement{
			Action: wire.ActionInstall, Number: 2, Previous: [32]byte{1}, Commitment: secret.Commitment(),
			Keeper: "b", Issued: time.Now(), Reason: "operator",
		}
		sign := func(h *host, s wire.Statement) []byte {
			return must(wire.SignStatement(h.identity.Signing, c.root.Trust().Cluster(), s))(t)
		}
		asKeeper, future := said, said
		asKeeper.Keeper = "a"
		future.Keeper, future.Issued = "a", time.Now().Add(time.Hour)
		altered := sign(a, asKeeper)
		altered[len(altered)-1] ^= 1
		other := newCluster(t, "demo")
		defer other.net.Close()
		foreign := other.host("a")
		for name, pair := range map[string][2][]byte{
			"a member's own":                  {sign(b, said), b.identity.Credential},
			"a member's, in a keeper's name":  {sign(b, asKeeper), a.identity.Credential},
			"a member's, keeper by name only": {sign(b, asKeeper), b.identity.Credential},
			"altered":                         {altered, a.identity.Credential},
			"from the future":                 {sign(a, future), a.identity.Credential},
			"another cluster's keeper":        {sign(foreign, asKeeper), foreign.identity.Credential},
			"no statement":                    {[]byte("rotate"), a.identity.Credential},
			"no credential":                   {sign(a, asKeeper), []byte("a")},
		} {
			b.node.epochGossip.spread(pair[0], pair[1])
			c.settle()
			for _, h := range []*host{a, d} {
				if got := h.epochs(); got != "1*" || len(h.node.ledger.pending) > 0 {
					t.Errorf("%s: %s holds %q and waits for %d", name, h.name, got, len(h.node.ledger.pending))
				}
			}
		}
	})
}

func TestSecretThatWasNotCommittedToIsNotInstalled(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		time.Sleep(freshFor) // nobody brings b the right one meanwhile
		_, install, err := a.node.beginEpoch("operator")
		if err != nil {
			t.Fatal(err)
		}
		wanted := b.node.ledger.Learn([][]byte{install.raw, install.credential})
		if len(wanted) != 1 {
			t.Fatalf("b wants %v", wanted)
		}
		if err := b.node.ledger.Install(wanted[0], make([]byte, 32)); err == nil {
			t.Error("another secret was installed")
		}
		if err := b.node.ledger.Install(wire.SecretRequest{Number: 9}, make([]byte, 32)); err == nil {
			t.Error("a secret nobody announced was installed")
		}
		if got := b.epochs(); got != "1*" {
			t.Errorf("b holds %q, want %q", got, "1*")
		}
	})
}

func TestRotationSurvivesARestartOfEveryNode(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		c.rotate(a)
		for _, h := range []*host{a, b, d} {
			h.crash()
		}
		a.start()
		b.start().join(a)
		d.start().join(b)
		c.settle()
		for _, h := range []*host{a, b, d} {
			if got := h.epochs(); got != "2*" {
				t.Errorf("%s holds %q, want %q", h.name, got, "2*")
			}
			if got, want := h.statuses(), "a alive, b alive, d alive"; got != want {
				t.Errorf("%s sees %q, want %q", h.name, got, want)
			}
		}
		if rotation := c.rotate(a); rotation.Epoch != 3 || !rotation.Removed {
			t.Errorf("the next rotation ended as %+v", rotation)
		}
	})
}

func TestSecondKeeperContinuesTheChain(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		k := c.host("k", pki.RoleKeeper).start().join(a)
		c.settle()
		c.rotate(a)
		a.stop()
		time.Sleep(time.Minute)
		if rotation := c.rotate(k); rotation.Epoch != 3 {
			t.Errorf("rotation ended as %+v", rotation)
		}
		a.start().join(k)
		c.settle()
		if got := a.epochs(); got != "3*" {
			t.Errorf("a holds %q, want %q", got, "3*")
		}
	})
}
