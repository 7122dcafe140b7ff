package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Limits of carriers.
const (
	// maxWaiting is how many packets wait for one peer: 76 KB.
	maxWaiting = 64

	// carryTimeout bounds a dial, and a write that the peer does not take.
	carryTimeout = 5 * time.Second

	// carryAgain is when a peer that could not be dialled is dialled again.
	carryAgain = 5 * time.Second

	// aliveEvery is how often whoever reads packets says so, and carrierIdle how
	// long a carrier lasts that nothing comes by. Writing says nothing: into a
	// stream that a firewall has forgotten it succeeds for a quarter of an hour.
	aliveEvery  = 10 * time.Second
	carrierIdle = 30 * time.Second

	// maxCarriers is how many carriers we open at once: one for each peer that UDP
	// does not reach. Where it reaches nobody, a node of a larger cluster gossips
	// with these and those who opened one to it.
	maxCarriers = 32

	// maxTaken is how many carriers we take, and takenPerMember from one member.
	// They last, other streams do not: half of the members' places stay for those.
	maxTaken       = maxMembers / 2
	takenPerMember = 2 // one may still be closing
)

// A carrier brings packets to one peer by stream while UDP to it is blocked. It
// has a queue of its own and, while something is in that, a goroutine of its own:
// a peer that is slow or dead holds up nobody but itself. The zero value is ready.
type carrier struct {
	mu      sync.Mutex
	queue   []wire.Carried // one without a type says that we are alive
	busy    bool           // somebody is writing what is in the queue
	streams []*carrierConn // that are open, four at most; the last one is written to
	retry   time.Time      // not dialled before then
	alive   time.Time      // when the peer was last told that packets arrive
}

// push queues a packet. It reports whether the oldest had to go for it, and
// whether the caller must see to it that the queue is written.
func (c *carrier) push(packet wire.Carried, now time.Time) (dropped, start bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.streams) == 0 && now.Before(c.retry) {
		return true, false
	}
	c.queue = append(c.queue, packet)
	if dropped = len(c.queue) > maxWaiting; dropped {
		c.queue = c.queue[1:]
	}
	start, c.busy = !c.busy, true
	return dropped, start
}

// next takes the oldest packet and the stream to write it to, if one is open.
// When nothing waits, whoever was writing is done.
func (c *carrier) next() (packet wire.Carried, stream *carrierConn, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.queue, c.busy = nil, false
		return wire.Carried{}, nil, false
	}
	packet, c.queue = c.queue[0], c.queue[1:]
	return packet, c.streamLocked(), true
}

// other is what to write to instead of a stream that failed; nil: none is open.
func (c *carrier) other(failed *carrierConn) *carrierConn {
	c.detach(failed)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streamLocked()
}

func (c *carrier) streamLocked() *carrierConn {
	if len(c.streams) == 0 {
		return nil
	}
	return c.streams[len(c.streams)-1]
}

// giveUp drops what waits: the peer cannot be dialled. It returns how much that
// was.
func (c *carrier) giveUp(now time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	dropped := len(c.queue)
	c.queue, c.busy, c.retry = nil, false, now.Add(carryAgain)
	return dropped
}

// attach makes a stream the one to write to: it is new, or something came by it.
func (c *carrier) attach(s *carrierConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams = append(slices.DeleteFunc(c.streams, func(other *carrierConn) bool { return other == s }), s)
}

// answer reports whether the peer is to be told that its packets arrive.
func (c *carrier) answer(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.alive) < aliveEvery {
		return false
	}
	c.alive = now
	return true
}

// detach forgets a stream that has ended. What waits goes by another that is open.
func (c *carrier) detach(s *carrierConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams = slices.DeleteFunc(c.streams, func(other *carrierConn) bool { return other == s })
}

// hangUp ends the streams that are open. What waits goes by another.
func (c *carrier) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, stream := range c.streams {
		stream.NetConn().Close()
	}
	c.streams = nil
}

// carrierConn is a synced stream that packets go over, both ways.
type carrierConn struct {
	*tls.Conn
	idle *time.Timer // closes what is below TLS
}

func newCarrierConn(conn *tls.Conn) (*carrierConn, error) {
	if err := conn.SetDeadline(time.Time{}); err != nil { // the sync's
		return nil, err
	}
	raw := conn.NetConn()
	return &carrierConn{Conn: conn, idle: time.AfterFunc(carrierIdle, func() { raw.Close() })}, nil
}

// send writes one packet, or that we are alive.
func (c *carrierConn) send(packet wire.Carried, now time.Time) error {
	kind, body := wire.FrameAlive, []byte(nil)
	if packet.Type != 0 {
		var err error
		if body, err = packet.Append(nil); err != nil {
			return err
		}
		kind = wire.FramePacket
	}
	var frame bytes.Buffer // so that it is one record of TLS
	if err := wire.WriteFrame(&frame, kind, body); err != nil {
		return err
	}
	if err := c.SetWriteDeadline(now.Add(carryTimeout)); err != nil {
		return err
	}
	_, err := c.Write(frame.Bytes())
	return err
}

// carry sends a packet by stream. It never waits.
func (t *Transport) carry(p *session, kind wire.PacketType, payload []byte) {
	t.queueCarried(p, wire.Carried{Type: kind, Payload: bytes.Clone(payload)})
}

func (t *Transport) queueCarried(p *session, packet wire.Carried) {
	dropped, start := p.carrier.push(packet, t.now())
	if dropped {
		t.counters.add(packetsDropped)
	}
	if start && !t.background(func() { t.writeCarrier(p) }) {
		p.carrier.giveUp(t.now())
	}
}

// writeCarrier writes what waits for one peer.
func (t *Transport) writeCarrier(p *session) {
	for {
		packet, stream, ok := p.carrier.next()
		if !ok {
			return
		}
		if err := t.writeCarried(p, stream, packet); err != nil {
			t.counters.addN(packetsDropped, 1+p.carrier.giveUp(t.now()))
			return
		}
		if packet.Type == 0 {
			continue
		}
		t.counters.add(packetsCarried)
		if p.path.carried(t.now()) {
			t.logger.Warn("udp to a node is blocked: its packets go by stream",
				slog.String("node", string(p.peer.Load().Name)))
		}
	}
}

// writeCarried writes one packet over a stream that is open, or if that fails or
// none is, over one that it opens.
func (t *Transport) writeCarried(p *session, stream *carrierConn, packet wire.Carried) error {
	for ; stream != nil; stream = p.carrier.other(stream) {
		if stream.send(packet, t.now()) == nil {
			return nil
		}
		stream.NetConn().Close()
	}
	stream, err := t.dialCarrier(p)
	if err != nil {
		return err
	}
	return stream.send(packet, t.now())
}

// dialCarrier opens a carrier to a peer and reads from it as long as it lives.
func (t *Transport) dialCarrier(p *session) (*carrierConn, error) {
	peer := p.peer.Load()
	if p.out.Load() {
		return nil, errNoKeys
	}
	if !t.carriers.Take(peer.Name) {
		return nil, errTooManyCarriers
	}
	ended := func() { t.carriers.GiveBack(peer.Name) }
	stream, err := t.openCarrier(p, peer, ended)
	if err != nil {
		ended()
	}
	return stream, err
}

var errTooManyCarriers = errors.New("too many carriers are open")

// openCarrier dials a peer for a carrier. When that ends, it calls ended.
func (t *Transport) openCarrier(p *session, peer *guard.Peer, ended func()) (*carrierConn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, carryTimeout)
	defer cancel()
	conn, _, _, err := t.dial(ctx, memberlist.Address{Name: string(peer.Name)}, wire.PurposeCarrier)
	if err != nil {
		return nil, err
	}
	stream, err := newCarrierConn(conn)
	if err != nil {
		t.hangUp(conn)
		return nil, err
	}
	p.carrier.attach(stream)
	if !t.background(func() {
		defer ended()
		defer t.hangUp(conn)
		t.readCarrier(p, stream)
	}) {
		t.hangUp(conn)
		return nil, errors.New("shutting down")
	}
	return stream, nil
}

// serveCarrier reads from a carrier that a peer opened. We may write to it too: a
// host that nobody can dial is reached so.
func (t *Transport) serveCarrier(conn *tls.Conn, member *guard.Peer) error {
	p := t.sessions.get(member.Name)
	if p == nil {
		return errNoKeys
	}
	if !t.taken.Take(member.Name) {
		return errTooManyCarriers
	}
	defer t.taken.GiveBack(member.Name)
	stream, err := newCarrierConn(conn)
	if err != nil {
		return err
	}
	p.carrier.attach(stream)
	t.readCarrier(p, stream)
	return nil
}

// readCarrier takes packets from a carrier until it ends, or its peer is no longer
// the node that proved itself: it is shut out, or another start of it has a session
// of its own.
func (t *Transport) readCarrier(p *session, stream *carrierConn) {
	defer stream.idle.Stop()
	defer p.carrier.detach(stream)
	for {
		kind, body, err := wire.ReadFrame(stream, wire.FramePacket, wire.FrameAlive)
		if err != nil || p.out.Load() || t.sessions.get(p.peer.Load().Name) != p {
			return
		}
		if kind == wire.FramePacket {
			if err := t.takeCarried(p, body); err != nil {
				t.counters.add(dropForged)
				continue // and it does not keep the carrier alive
			}
		}
		stream.idle.Reset(carrierIdle)
		p.carrier.attach(stream)
		if kind == wire.FramePacket && p.carrier.answer(t.now()) {
			t.queueCarried(p, wire.Carried{})
		}
	}
}

// takeCarried passes on what came by stream, under the rules for what comes by
// datagram.
func (t *Transport) takeCarried(p *session, body []byte) error {
	packet, err := wire.ParseCarried(body)
	if err != nil {
		return err
	}
	if packet.Type == wire.PacketPathChallenge {
		return guard.ErrMalformed // it asks about datagrams
	}
	t.noteReceived(p, packet.Type)
	return t.deliver(p.peer.Load(), packet.Type, packet.Payload)
}
