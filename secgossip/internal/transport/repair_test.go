package transport

import (
	"bytes"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Whoever dials, both sides have afterwards what one of them had.
func TestEventsAreBroughtInASync(t *testing.T) {
	for _, test := range []struct {
		purpose wire.Purpose
		most    int // 0: no events go by such a stream
	}{
		{wire.PurposeGossip, maxBeside},
		{wire.PurposeEpoch, 0},
		{wire.PurposeCarrier, maxBeside},
		{wire.PurposeReply, 0},
		{wire.PurposeRepair, wire.MaxRepair},
	} {
		for _, dialler := range []string{"the one that lacks them", "the one that has them"} {
			inBubble(t, func(t *testing.T, c *cluster) {
				a, b := c.pair()
				b.events.items = [][]byte{[]byte("one"), []byte("two")}
				from, to := a, b
				if dialler == "the one that has them" {
					from, to = b, a
				}
				conn, _, _, err := from.dial(t.Context(), memberlist.Address{Name: string(to.name)}, test.purpose)
				if err != nil {
					t.Fatal(err)
				}
				defer from.hangUp(conn)
				synctest.Wait()
				want := "one two"
				if test.most == 0 {
					want = ""
				}
				if got := string(bytes.Join(a.events.items, []byte(" "))); got != want {
					t.Errorf("purpose %d, %s dials: a has %q, want %q", test.purpose, dialler, got, want)
				}
				if len(b.events.items) != 2 || b.events.most != test.most {
					t.Errorf("purpose %d, %s dials: b has %d items and was asked for %d bytes, want 2 and %d",
						test.purpose, dialler, len(b.events.items), b.events.most, test.most)
				}
			})
		}
	}
}

func TestStreamThatRepairsIsClosedAfterwards(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		b.events.items = [][]byte{[]byte("one")}
		if err := a.Repair(t.Context(), a.of(b)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(a.events.items) != 1 || len(a.open.conns) != 0 || len(b.open.conns) != 0 {
			t.Errorf("a has %d items, %d and %d connections are open", len(a.events.items), len(a.open.conns), len(b.open.conns))
		}
	})
}

// Threat C10: a member sends as a tally or as events what is none, or too much of it.
func TestRepairThatDoesNotParseEndsTheStream(t *testing.T) {
	whole := must(wire.Tally{To: [8]byte{0xff}}.AppendWhole(nil))(t)
	for name, body := range map[string]struct{ tally, repair []byte }{
		"half a tally":     {whole[:15], nil},
		"an empty event":   {whole, []byte{0, 0}},
		"an endless event": {whole, append([]byte{0x04, 0x9d}, make([]byte, wire.MaxMarkedEvent+1)...)},
	} {
		inBubble(t, func(t *testing.T, c *cluster) {
			b, x := c.node("b").start(), c.node("x").start()
			conn := x.proveTo(b)
			x.sendHello(conn, x.hello(wire.PurposeRepair))
			if _, _, err := x.readHello(conn, pki.Identity{Name: "b", Key: b.public()}); err != nil {
				t.Fatal(err)
			}
			x.sendKnown(conn)
			x.readKnown(conn)
			x.sendStatements(conn)
			x.readStatements(conn)
			wire.WriteFrame(conn, wire.FrameAck, x.state())
			wire.WriteFrame(conn, wire.FrameTally, body.tally)
			if _, _, err := wire.ReadFrame(conn, wire.FrameAck); err == nil {
				x.readTally(conn)
				x.readRepair(conn)
				wire.WriteFrame(conn, wire.FrameRepair, body.repair)
			}
			synctest.Wait()
			if refused := b.Counters()["streams_refused"]; refused != 1 || len(b.events.items) != 0 {
				t.Errorf("%s: b refused %d streams and took %d events", name, refused, len(b.events.items))
			}
			conn.Close()
		})
	}
}
