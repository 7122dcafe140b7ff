package transport

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func TestAPayloadIsPulledByStream(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		payload := bytes.Repeat([]byte("x"), wire.MaxLargePayload)
		b.held = [][]byte{payload}
		got, err := a.Pull(t.Context(), a.of(b), sha256.Sum256(payload), len(payload))
		if err != nil || !bytes.Equal(got, payload) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		var refusal wire.Refusal
		if _, err := a.Pull(t.Context(), a.of(b), sha256.Sum256(payload), len(payload)); !errors.As(err, &refusal) || refusal.Code != wire.RefusedUnknown {
			t.Errorf("one that is not there: got %v, want a refusal", err)
		}
	})
}

// That a member has several endpoints shortens the tries to reach it, and not the pull.
func TestAPullHasTheTimeThatTheDialLeaves(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.node("a").start(), c.node("b")
		hole := netip.MustParseAddrPort("10.0.0.1:7946")
		c.net.Block(a.addr.Addr(), hole.Addr())
		b.endpoints = []netip.AddrPort{hole, b.addr, netip.MustParseAddrPort("10.0.0.2:7946")}
		b.start()
		a.learn(b)
		payload := bytes.Repeat([]byte("x"), 1000)
		const dial = payloadTimeout / 3
		for _, slow := range []time.Duration{payloadTimeout - dial - time.Second, payloadTimeout} {
			b.config.Payload = func([32]byte) []byte { time.Sleep(slow); return payload }
			begun := time.Now()
			got, err := a.Pull(t.Context(), a.of(b), sha256.Sum256(payload), len(payload))
			took := time.Since(begun)
			if slow < payloadTimeout && (err != nil || !bytes.Equal(got, payload) || took != dial+slow) {
				t.Errorf("got %d bytes after %v, %v; want the payload after %v", len(got), took, err, dial+slow)
			}
			if slow >= payloadTimeout && (!errors.Is(err, os.ErrDeadlineExceeded) || took != payloadTimeout) {
				t.Errorf("one that does not come took %v, %v; want %v in all", took, err, payloadTimeout)
			}
		}
	})
}

// Threat C04, C07: a member gives more than was announced, or something else.
func TestAnotherPayloadThanTheAnnouncedIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		payload := bytes.Repeat([]byte("x"), 1000)
		for what, test := range map[string]struct {
			lie  []byte
			want error
		}{
			"more":    {make([]byte, 1001), wire.ErrFrameSize},
			"all":     {make([]byte, wire.MaxLargePayload), wire.ErrFrameSize},
			"less":    {payload[:999], errOtherPayload},
			"another": {make([]byte, 1000), errOtherPayload},
		} {
			b.held = [][]byte{test.lie}
			if got, err := a.Pull(t.Context(), a.of(b), sha256.Sum256(payload), len(payload)); !errors.Is(err, test.want) || got != nil {
				t.Errorf("%s: got %d bytes and %v, want %v", what, len(got), err, test.want)
			}
		}
	})
}

// Threat C10: a member that asks for payloads and reads none of them holds few places, and
// for a limited time.
func TestOneMemberHoldsFewPlacesForPayloads(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		payload := bytes.Repeat([]byte("x"), wire.MaxLargePayload)
		digest := sha256.Sum256(payload)
		b.held = [][]byte{payload, payload, payload}
		for range payloadsPerMember {
			ctx, cancel := context.WithTimeout(t.Context(), 2*payloadTimeout)
			defer cancel()
			conn, _, _, err := a.dial(ctx, memberlist.Address{Name: "b"}, wire.PurposePayload)
			if err != nil {
				t.Fatal(err)
			}
			defer a.hangUp(conn)
			if err := wire.WriteFrame(conn, wire.FramePayloadRequest, digest[:]); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		var refusal wire.Refusal
		if _, err := a.Pull(t.Context(), a.of(b), digest, len(payload)); !errors.As(err, &refusal) || refusal.Code != wire.RefusedBusy {
			t.Errorf("one more: got %v, want a refusal", err)
		}
		a.pause(payloadTimeout)
		synctest.Wait()
		if _, err := a.Pull(t.Context(), a.of(b), digest, len(payload)); err != nil {
			t.Errorf("when the silent ones are cut off: %v", err)
		}
		if b.asked != 3 {
			t.Errorf("b was asked for %d payloads, want 3", b.asked)
		}
	})
}
