package secgossip

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// say has a member seal any memberlist packet for another.
func (h *host) say(to *host, packet string) {
	h.c.t.Helper()
	peer := h.node.roster.Get(pki.Name(to.name))
	payload := must(wire.Gossip{Packet: []byte(packet)}.Append(nil))(h.c.t)
	if err := h.node.transport.Send(peer, wire.PacketGossip, payload); err != nil {
		h.c.t.Fatal(err)
	}
}

// aliveOf is memberlist's packet that says that b is alive, as of an incarnation.
func aliveOf(b *guard.Peer, incarnation byte) string {
	addr := b.Virtual.Addr().As16()
	return "\x04\x86\xa4Addr\xb0" + string(addr[:]) + "\xabIncarnation" + string(rune(incarnation)) +
		"\xa4Meta\xa1m\xa4Node\xa1b\xa4Port\xcd\x1f\x0a\xa3Vsn\xa6\x01\x05\x02\x01\x01\x01"
}

// Threat C20: who is caught is told of once, stays a member, and is not believed
// about others any more where it was caught.
func TestMemberThatIsCaughtIsNotBelievedAboutOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, _, d := c.three()
		known := func() uint32 { // what memberlist was given of b
			a.node.members.mu.Lock()
			defer a.node.members.mu.Unlock()
			return a.node.members.claims["b"].alive
		}
		b := a.node.roster.Get("b")
		d.say(a, aliveOf(b, 50))
		c.settle()
		if got := known(); got != 50 {
			t.Fatalf("a knows b as of %d: what d says of b is not heard to begin with", got)
		}
		for range 3 {
			d.say(a, "\x02\x01") // an answer that is no map
		}
		d.say(a, aliveOf(b, 60))
		c.settle()
		if got := known(); got != 50 {
			t.Errorf("a knows b as of %d, on the word of d", got)
		}
		time.Sleep(time.Minute)
		if got, want := a.statuses(), "a alive, b alive, d alive"; got != want {
			t.Errorf("a sees %q, want %q", got, want)
		}
		if got := slices.DeleteFunc(a.seen.memberEvents(), func(e string) bool { return !strings.HasPrefix(e, "member-quarantine") }); !slices.Equal(got, []string{"member-quarantine d"}) {
			t.Errorf("a was told %q", got)
		}
		if got := a.node.Info()["gossip"]; got["quarantined"] != "1" || got["convictions"] != "1" {
			t.Errorf("a counts %s in quarantine and %s convictions", got["quarantined"], got["convictions"])
		}
		if got := a.node.Info()["quarantine"]; len(got) != 1 || !strings.HasPrefix(got["d"], "for 58m") {
			t.Errorf("a tells of %q in quarantine, want d for what is left of the hour", got)
		}
	})
}

func TestQuarantineEndsAnHourAfterTheLastOffence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuarantine()
		if !q.begin("d") {
			t.Error("the first offence is no news")
		}
		time.Sleep(50 * time.Minute)
		if q.begin("d") {
			t.Error("the second is")
		}
		time.Sleep(50 * time.Minute)
		if !q.holds("d") || q.size() != 1 {
			t.Error("it ended before the hour")
		}
		time.Sleep(10 * time.Minute)
		if q.holds("d") || q.size() != 0 || len(q.list()) != 0 {
			t.Error("it does not end")
		}
		if !q.begin("d") {
			t.Error("what comes after that is no news")
		}
	})
}

// A member that was put out, and is issued anew, is another.
func TestNewIdentityIsNotInQuarantine(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		d.say(a, "\x02\x01")
		c.settle()
		if !a.node.quarantine.holds("d") || b.node.quarantine.holds("d") {
			t.Error("d is not in quarantine at a, or is at b, to whom it said nothing")
		}
		a.revoke(VerbEvict, "d")
		d.stop()
		c.issue(d, "d")
		d.start().join(a)
		c.settle()
		if a.node.quarantine.holds("d") {
			t.Error("d is still in quarantine")
		}
	})
}
