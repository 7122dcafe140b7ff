package secgossip

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// follow follows an event for so long at most.
func (c *client) follow(at *host, raw []byte, limit time.Duration) (targets, confirmed, missing []string, err error) {
	ctx, cancel := context.WithTimeout(c.c.t.Context(), limit)
	defer cancel()
	missing, err = at.node.Follow(ctx, raw, c.public(), func(names []string) { targets = names }, func(name string) error {
		confirmed = append(confirmed, name)
		return nil
	})
	slices.Sort(confirmed)
	return targets, confirmed, missing, err
}

func TestClientIsToldWhoHasItsEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		c.net.Loss(0.3)
		client := c.client("memo", "event:*")
		large := aPayload(1, 200_000)
		for _, test := range []struct {
			payload string
			nodes   []string
			targets string
			missing string
		}{
			{"v1", nil, "a b d", ""},
			{string(large), nil, "a b d", ""},
			{string(large[:1000]), []string{"d"}, "d", ""},
			{"v2", []string{"b", "gone"}, "b", "gone"},
		} {
			raw := client.sign("deploy", test.payload, test.nodes...)
			var beside []byte
			if len(test.payload) > 512 {
				beside = []byte(test.payload)
			}
			if _, err := a.node.FireLarge(raw, beside, client.public()); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			targets, confirmed, missing, err := client.follow(a, raw, time.Minute)
			if err != nil || strings.Join(targets, " ") != test.targets || !slices.Equal(confirmed, targets) || strings.Join(missing, " ") != test.missing {
				t.Errorf("%d bytes for %q: %q of %q have it, missing %q, %v", len(test.payload), test.nodes, confirmed, targets, missing, err)
			}
			if time.Since(begun) >= time.Minute {
				t.Error("it did not end before its deadline")
			}
			for _, h := range []*host{b, d} {
				if digest := sha256.Sum256(beside); len(beside) > 0 && slices.Contains(targets, h.name) && !h.node.payloads.has(digest, len(beside)) {
					t.Errorf("%s says that it has the event and has no payload", h.name)
				}
			}
		}
		// Any node can be asked.
		raw := client.sign("deploy", "v3")
		if _, err := a.node.Fire(raw, client.public()); err != nil {
			t.Fatal(err)
		}
		if _, confirmed, missing, err := client.follow(d, raw, time.Minute); len(confirmed) != 3 || len(missing) != 0 || err != nil {
			t.Errorf("at d %q have it, missing %q, %v", confirmed, missing, err)
		}
	})
}

// Who has not got an event, or lacks its payload, does not say that it has it.
func TestWhoLacksThePayloadHasNotTheEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, _, _ := c.three()
		client := c.client("memo", "event:*")
		large := aPayload(1, 1000)
		unfired, announced := client.sign("deploy", "v1"), client.sign("deploy", string(large))
		a.spread(announced)
		for _, raw := range [][]byte{unfired, announced} {
			targets, confirmed, missing, err := client.follow(a, raw, 5*time.Second)
			if err != nil || len(confirmed) != 0 || !slices.Equal(missing, targets) || len(targets) != 3 {
				t.Errorf("%q of %q have it, missing %q, %v; want all", confirmed, targets, missing, err)
			}
		}
		a.node.payloads.mustPut(t, large, time.Now().Add(time.Hour), time.Now())
		if _, confirmed, missing, err := client.follow(a, announced, time.Minute); err != nil || len(confirmed) != 3 {
			t.Errorf("when it comes %q have it, missing %q, %v", confirmed, missing, err)
		}
	})
}

// Threat C21: a member says that others have an event, and floods whoever waits for them.
func TestNobodySaysForAnotherThatItHasAnEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		client := c.client("memo", "event:*")
		raw := client.sign("deploy", "v1")
		event := must(a.node.config.Verifier.VerifyEvent(raw, time.Now()))(t)
		b.crash()
		if _, err := a.node.Fire(raw, client.public()); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
					_ = d.node.transport.Send(d.node.roster.Get("a"), wire.PacketReceipt, wire.Receipt{Event: event.key()}.Append(nil))
				}
			}
		}()
		targets, confirmed, missing, err := client.follow(a, raw, 2*time.Second) // b is not yet seen to have failed
		close(stop)
		if err != nil || strings.Join(targets, " ") != "a b d" || strings.Join(confirmed, " ") != "a d" || strings.Join(missing, " ") != "b" {
			t.Errorf("%q of %q have it, missing %q, %v; want b alone to be missing", confirmed, targets, missing, err)
		}
	})
}

// Threat C10: receipts cost a node little, whoever asks for them.
func TestReceiptsHaveBounds(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		client := c.client("memo", "event:*")
		raw := client.sign("deploy", "v1")
		event := must(a.node.config.Verifier.VerifyEvent(raw, time.Now()))(t)
		if _, err := a.node.Fire(raw, client.public()); err != nil {
			t.Fatal(err)
		}
		c.settle()
		sent := b.node.transport.Counters()["packets_sent"]
		for i := range 4 * maxReceipts {
			if i%32 == 0 {
				time.Sleep(time.Millisecond) // a socket's queue is bounded
			}
			_ = a.node.transport.Send(a.node.roster.Get("b"), wire.PacketAskReceipt, wire.Receipt{Event: event.key()}.Append(nil))
		}
		time.Sleep(100 * time.Millisecond)
		if n := b.node.transport.Counters()["packets_sent"] - sent; n > maxReceipts+20 || b.node.counts.receiptsDropped.Load() == 0 {
			t.Errorf("b sent %d packets and dropped %d questions, want %d at most", n, b.node.counts.receiptsDropped.Load(), maxReceipts)
		}
		other := c.client("other", "event:*")
		if _, _, _, err := other.follow(a, raw, time.Second); !errors.Is(err, ErrNotYours) {
			t.Errorf("another client: got %v, want ErrNotYours", err)
		}
		if n := len(a.node.follows.clients.has); n != 0 {
			t.Errorf("%d clients are counted, and nothing is followed", n)
		}
		// Of one client some are refused when there is room for others yet.
		for _, many := range []struct {
			client [32]byte
			most   int
		}{{[32]byte(client.public()), followsOfOne}, {[32]byte(other.public()), maxFollows - followsOfOne}} {
			for range many.most {
				if !a.node.follows.add(journalKey{1}, &follow{client: many.client}) {
					t.Fatal("there is no room for one")
				}
			}
			if a.node.follows.add(journalKey{1}, &follow{client: many.client}) {
				t.Errorf("there is room for more than %d of one client", many.most)
			}
			if _, _, _, err := client.follow(a, raw, time.Second); !errors.Is(err, ErrBusy) {
				t.Errorf("one more: got %v, want ErrBusy", err)
			}
		}
	})
}

// Whoever has not got an event when it expires does not get it any more.
func TestFollowingEndsWhenTheEventExpires(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		client := c.client("memo", "event:*")
		b.crash()
		raw := must(rpcauth.SignEvent(client.key, client.token, rpcauth.EventRequest{
			Cluster: c.root.Trust().Cluster(), Name: "deploy", Payload: []byte("v1"), Life: 2 * time.Second,
		}, time.Now()))(t)
		if _, err := a.node.Fire(raw, client.public()); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		_, confirmed, missing, err := client.follow(a, raw, time.Hour) // b is not yet seen to have failed
		if err != nil || strings.Join(confirmed, " ") != "a d" || strings.Join(missing, " ") != "b" {
			t.Errorf("%q have it, missing %q, %v; want b alone to be missing", confirmed, missing, err)
		}
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("it ended after %v, want it to end with the event", took)
		}
	})
}

// Tag filters that are slow hold no processor for as long as there are members.
func TestTargetsAreNotChosenForEver(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, _, _ := c.three()
		slow := func(d time.Duration) func(string, map[string]string) bool {
			return func(string, map[string]string) bool { time.Sleep(d); return true }
		}
		if live, absent, err := a.node.targets([]string{"x"}, slow(choosing/4)); err != nil || len(live) != 3 || len(absent) != 1 {
			t.Errorf("in time: %q, not alive %q, %v", live, absent, err)
		}
		if _, _, err := a.node.targets(nil, slow(choosing)); !errors.Is(err, ErrChoosing) {
			t.Errorf("too slow: %v, want %v", err, ErrChoosing)
		}
	})
}
