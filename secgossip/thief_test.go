package secgossip

import (
	"bytes"
	"testing"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/secgossip/internal/memnet"
	"github.com/secgossip/secgossip/secgossip/internal/seal"
)

// stolen is a copy of the secret of an epoch.
func stolen(h *host, number uint64) *keyring.Secret {
	h.c.t.Helper()
	epoch, held := h.file.Keyring().Get(number)
	if !held {
		h.c.t.Fatalf("%s does not hold epoch %d", h.name, number)
	}
	var raw bytes.Buffer
	if _, err := epoch.Secret.WriteTo(&raw); err != nil {
		h.c.t.Fatal(err)
	}
	return must(keyring.SecretFrom(raw.Bytes()))(h.c.t)
}

// opened counts the datagrams of a recording that a thief opens as those of an
// epoch. It has everything of every host, as long as none restarts, but the secret:
// that is what it is given.
func (c *cluster) opened(recording []memnet.Datagram, number uint64, secret *keyring.Secret) (count int) {
	c.t.Helper()
	cluster := c.root.Trust().Cluster()
	for _, to := range c.hosts {
		for _, from := range c.hosts {
			if from == to {
				continue
			}
			self := seal.Party{Key: to.node.self.key(), Boot: to.node.self.boot}
			peer := seal.Party{Key: from.node.self.key(), Boot: from.node.self.boot}
			shared := must(to.identity.Agreement.Agree(from.node.roster.Get(from.identity.Name).Credential.AgreementKey))(c.t)
			inbox := seal.NewInbox[string](cluster, self)
			if err := inbox.AddEpoch(number, secret); err != nil {
				c.t.Fatal(err)
			}
			if err := inbox.AddPeer(must(seal.NewReceiver(shared, secret, cluster, number, self, peer))(c.t), from.name); err != nil {
				c.t.Fatal(err)
			}
			for _, d := range recording {
				if d.From == from.addr && d.To == to.addr {
					if _, drop := inbox.Open(d.Data, nil); drop == seal.Accepted {
						count++
					}
				}
			}
		}
	}
	return count
}

// Threat K04: whoever has the secret of an epoch, every key of every host and a
// recording of the whole rotation reads nothing of the next epoch.
func TestOldEpochOpensNothingOfTheNext(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		tape := new(tape)
		c.net.Tap(tape.record)
		a, _, _ := c.three()
		one := stolen(a, 1)
		c.rotate(a)
		time.Sleep(10 * time.Second)
		two := stolen(a, 2)
		recording := tape.stop()

		before, after := c.opened(recording, 1, one), c.opened(recording, 2, two)
		if before == 0 || after == 0 {
			t.Fatalf("with their own secrets %d datagrams of epoch 1 and %d of epoch 2 open: the thief is no good", before, after)
		}
		if got := c.opened(recording, 2, one); got != 0 {
			t.Errorf("of %d datagrams of epoch 2, %d open with the secret of epoch 1", after, got)
		}
		if got := c.opened(recording, 1, two); got != 0 {
			t.Errorf("of %d datagrams of epoch 1, %d open with the secret of epoch 2", before, got)
		}
	})
}

// Threat K05: two rotations later, what was recorded opens with nothing that is left
// on any host, in memory or on disk.
func TestTrafficOlderThanTwoEpochsOpensWithNothingThatIsLeft(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		tape := new(tape)
		c.net.Tap(tape.record)
		a, _, _ := c.three()
		one := stolen(a, 1)
		c.rotate(a)
		c.rotate(a)
		c.settle()
		recording := tape.stop()

		if got := c.opened(recording, 1, one); got == 0 {
			t.Fatal("the secret of epoch 1 opens nothing of it: the thief is no good")
		}
		for _, h := range c.hosts {
			onDisk := must(keyring.OpenFile(h.keyring, h.locker))(t)
			defer onDisk.Keyring().Destroy()
			before := must(keyring.OpenFile(h.keyring+".prev", h.locker))(t)
			defer before.Keyring().Destroy()
			for _, ring := range []*keyring.Keyring{h.file.Keyring(), onDisk.Keyring(), before.Keyring()} {
				for _, info := range ring.List() {
					epoch, _ := ring.Get(info.Number)
					if got := c.opened(recording, 1, epoch.Secret); got != 0 {
						t.Errorf("%d datagrams of epoch 1 open with epoch %d of %s", got, info.Number, h.name)
					}
				}
			}
			if got := h.epochs(); got != "3*" {
				t.Errorf("%s holds %q, want %q", h.name, got, "3*")
			}
		}
	})
}
