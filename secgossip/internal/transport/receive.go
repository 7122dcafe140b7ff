package transport

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/internal/places"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/seal"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// receive reads datagrams until Shutdown, into one buffer. Nothing is allocated
// before a datagram has been opened.
func (t *Transport) receive() {
	// One byte more than a datagram may have, so that a longer one shows.
	buffer := make([]byte, wire.MaxDatagram+1)
	for {
		n, from, err := t.packets.ReadFromUDPAddrPort(buffer)
		switch {
		case err == nil:
			t.take(buffer[:n], from)
		case t.ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			return
		default:
			// Some systems report the fate of an earlier write here. Whatever
			// it is, it must not make us spin.
			t.pause(time.Millisecond)
		}
	}
}

// pause waits, or until Shutdown.
func (t *Transport) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
	}
}

// take opens one datagram and passes on what it holds.
func (t *Transport) take(datagram []byte, from netip.AddrPort) {
	opened, drop := t.sessions.inbox.Open(datagram, nil)
	if drop != seal.Accepted {
		t.counters.addDrop(drop)
		return
	}
	t.noteReceived(opened.Peer, opened.Type)
	opened.Peer.heard(from, opened.Epoch)
	t.sources.seen(opened.Peer.peer.Load().Name, places.SourceOf(from.Addr()))
	if err := t.deliver(opened.Peer.peer.Load(), opened.Type, opened.Payload); err != nil {
		t.counters.add(dropForged)
	}
}

// noteReceived notes that a packet of a peer came, in whichever way, and counts what
// somebody said apart from what keeps the way open.
func (t *Transport) noteReceived(p *session, kind wire.PacketType) {
	p.last.Store(int64(t.now().Sub(t.begun)))
	switch kind {
	case wire.PacketPathChallenge, wire.PacketPathResponse:
		t.counters.add(checksReceived)
	default:
		t.counters.add(packetsReceived)
	}
}

// deliver hands an opened payload to whom it is for.
func (t *Transport) deliver(from *guard.Peer, kind wire.PacketType, payload []byte) error {
	switch kind {
	case wire.PacketGossip:
		return t.deliverGossip(from, payload)
	case wire.PacketRecords:
		records, err := wire.BatchRecords.Parse(payload)
		if err != nil {
			return err
		}
		t.admit(records)
		return nil
	case wire.PacketEvents, wire.PacketRepair:
		items, err := wire.BatchEvents.Parse(payload)
		if err != nil {
			return err
		}
		t.config.Batch(from, kind, items)
		return nil
	case wire.PacketEpochs:
		items, err := wire.BatchEpochs.Parse(payload)
		if err != nil {
			return err
		}
		t.config.Batch(from, kind, items)
		return nil
	case wire.PacketRevocations:
		items, err := wire.BatchRevocations.Parse(payload)
		if err != nil {
			return err
		}
		t.config.Batch(from, kind, items)
		return nil
	case wire.PacketTally, wire.PacketLacks:
		if _, err := wire.ParseTally(payload); err != nil {
			return err
		}
		t.config.Batch(from, kind, [][]byte{payload})
		return nil
	case wire.PacketQueries:
		items, err := wire.BatchQueries.Parse(payload)
		if err != nil {
			return err
		}
		t.config.Batch(from, kind, items)
		return nil
	case wire.PacketRemovals:
		items, err := wire.BatchRemovals.Parse(payload)
		if err != nil {
			return err
		}
		t.config.Batch(from, kind, items)
		return nil
	case wire.PacketReplies, wire.PacketRelay:
		items, err := wire.BatchReplies.Parse(payload)
		if err != nil {
			return err
		}
		t.config.Batch(from, kind, items)
		return nil
	case wire.PacketTaken:
		if _, err := wire.ParseTaken(payload); err != nil {
			return err
		}
		t.config.Batch(from, kind, [][]byte{payload})
		return nil
	case wire.PacketAskReceipt, wire.PacketReceipt:
		if _, err := wire.ParseReceipt(payload); err != nil {
			return err
		}
		t.config.Batch(from, kind, [][]byte{payload})
		return nil
	case wire.PacketState:
		return t.takeState(from, payload)
	case wire.PacketPathChallenge:
		return t.answerChallenge(from, payload)
	case wire.PacketPathResponse:
		return t.takeResponse(from, payload)
	}
	return guard.ErrMalformed
}

// deliverGossip checks a memberlist packet with the evidence beside it and hands
// it on. When memberlist does not keep up the packet is dropped, as a network
// would.
func (t *Transport) deliverGossip(from *guard.Peer, payload []byte) error {
	gossip, err := wire.ParseGossip(payload)
	if err != nil {
		return err
	}
	about, err := guard.CheckPacket(gossip.Packet, string(from.Name))
	if guard.Convicts(err) && t.config.Convicted != nil {
		t.config.Convicted(from, err)
	}
	if err != nil {
		return err
	}
	t.admit(gossip.Evidence)
	if t.config.Quarantined != nil && t.config.Quarantined(from.Name) {
		if gossip.Packet = guard.OwnWords(gossip.Packet, string(from.Name), string(t.config.Self)); gossip.Packet == nil {
			return nil
		}
		if about, err = guard.CheckPacket(gossip.Packet, string(from.Name)); err != nil {
			return err
		}
	}
	for _, name := range about.Left {
		// Only a member itself can say that it left (threat K02).
		if p := t.config.Roster.Get(pki.Name(name)); p == nil || !p.Record.Leaving {
			return guard.ErrForged
		}
	}
	packet := &memberlist.Packet{Buf: gossip.Packet, From: net.UDPAddrFromAddrPort(from.Virtual), Timestamp: t.now()}
	select {
	case t.packetCh <- packet:
		t.claimed(slices.DeleteFunc(about.Claims, func(c guard.Claim) bool { return c.Suspect })) // memberlist may not believe it
	default:
		t.counters.add(packetsOverflow)
	}
	return nil
}
