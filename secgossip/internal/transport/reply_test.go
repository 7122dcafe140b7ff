package transport

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func TestALongReplyComesByStream(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		raw := bytes.Repeat([]byte("x"), wire.MaxReplyRaw)
		if err := a.SendReply(t.Context(), a.of(b), raw); err != nil {
			t.Fatal(err)
		}
		if len(b.replies) != 1 || !bytes.Equal(b.replies[0], raw) {
			t.Errorf("b has %d replies, want the one that was sent", len(b.replies))
		}
		if err := a.SendReply(t.Context(), a.of(b), append(raw, 'x')); !errors.Is(err, wire.ErrFrameSize) {
			t.Errorf("a longer one: got %v, want ErrFrameSize", err)
		}
	})
}

// Whoever is refused hears so and may try again.
func TestAReplyThatIsNotTakenIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		b.full = true
		var refusal wire.Refusal
		if err := a.SendReply(t.Context(), a.of(b), []byte("x")); !errors.Is(err, ErrNotTaken) || !errors.As(err, &refusal) {
			t.Errorf("got %v, want a refusal", err)
		}
		b.full = false
		if err := a.SendReply(t.Context(), a.of(b), []byte("x")); err != nil {
			t.Errorf("the next time: %v", err)
		}
	})
}

// Threat C10: a member that opens streams for replies and says nothing holds few
// places, and for a limited time.
func TestOneMemberHoldsFewPlacesForReplies(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		for range repliesPerMember {
			ctx, cancel := context.WithTimeout(t.Context(), streamTimeout)
			defer cancel()
			conn, _, _, err := a.dial(ctx, memberlist.Address{Name: "b"}, wire.PurposeReply)
			if err != nil {
				t.Fatal(err)
			}
			defer a.hangUp(conn)
		}
		synctest.Wait()
		if err := a.SendReply(t.Context(), a.of(b), []byte("x")); !errors.Is(err, ErrNotTaken) {
			t.Errorf("one more: got %v, want ErrNotTaken", err)
		}
		a.pause(streamTimeout)
		synctest.Wait()
		if err := a.SendReply(t.Context(), a.of(b), []byte("x")); err != nil {
			t.Errorf("when the silent ones are cut off: %v", err)
		}
		if len(b.replies) != 1 {
			t.Errorf("b has %d replies, want 1", len(b.replies))
		}
	})
}
