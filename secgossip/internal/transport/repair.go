package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// The part of a sync that is about events: tallies both ways, then what the other
// side lacks. It adds no round trip: tallies go with the acks.

// maxBeside is how many bytes of events go with a sync for something else, which waits
// behind them: as many as one tally is answered with by packets. Whoever lacks more
// opens a stream for that.
const maxBeside = 32 << 10

// Repair has us and a member bring each other the events that one of us lacks. It takes
// streamTimeout at most.
func (t *Transport) Repair(ctx context.Context, with *guard.Peer) error {
	return t.visit(ctx, with, wire.PurposeRepair, streamTimeout, func(*tls.Conn) error { return nil }) // the sync is all
}

// sendTally tells what we have, if streams of this purpose repair, and returns it.
func (t *Transport) sendTally(conn net.Conn, purpose wire.Purpose) (wire.Tally, error) {
	if !purpose.Repairs() {
		return wire.Tally{}, nil
	}
	tally := t.config.Events.Tally()
	body, err := tally.AppendWhole(nil)
	if err != nil {
		return wire.Tally{}, err
	}
	return tally, wire.WriteFrame(conn, wire.FrameTally, body)
}

func (t *Transport) readTally(conn net.Conn) (wire.Tally, error) {
	_, body, err := wire.ReadFrame(conn, wire.FrameTally)
	if err != nil {
		return wire.Tally{}, fmt.Errorf("reading a tally: %w", err)
	}
	return wire.ParseWholeTally(body)
}

func (t *Transport) sendRepair(conn net.Conn, purpose wire.Purpose, theirs wire.Tally) error {
	most := maxBeside
	if purpose == wire.PurposeRepair {
		most = wire.MaxRepair
	}
	items := t.config.Events.Lacking(theirs, most)
	body, err := wire.BatchRepair.Append(nil, items)
	if err != nil {
		return err
	}
	return wire.WriteFrame(conn, wire.FrameRepair, body)
}

func (t *Transport) readRepair(conn net.Conn) ([][]byte, error) {
	_, body, err := wire.ReadFrame(conn, wire.FrameRepair)
	if err != nil {
		return nil, fmt.Errorf("reading events: %w", err)
	}
	return wire.BatchRepair.Parse(body)
}
