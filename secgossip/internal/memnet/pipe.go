package memnet

import (
	"bytes"
	"sync"
	"time"
)

// streamBuffer is how many bytes one direction of a stream holds: written by
// one end and not yet read by the other.
const streamBuffer = 64 << 10

// pipe is one direction of a stream. Each of its bytes is on its way, stalled
// before a blocked path, or arrived. They stay in order in one buffer, so that
// counting is enough: whichever bytes arrive, the reader gets the first ones.
type pipe struct {
	net      *Network
	from, to *conn
	buffer   bytes.Buffer
	arrived  int    // bytes of buffer that may be read
	ended    bool   // the end has arrived
	stalled  parcel // what waits for the path
	cut      bool   // from received a reset: nothing more comes out of it
	latest   time.Time
	moved    *sync.Cond // something arrived, or was read, or failed
}

// parcel is what travels on a pipe: some bytes of its buffer, the end of the
// stream after them, a reset.
type parcel struct {
	bytes      int
	end, reset bool
}

func newPipe(n *Network) *pipe { return &pipe{net: n, moved: sync.NewCond(&n.mu)} }

func (p *pipe) roomLocked() int { return streamBuffer - p.buffer.Len() }

// writeLocked takes bytes, no more than there is room for.
func (p *pipe) writeLocked(b []byte) {
	p.buffer.Write(b)
	p.sendLocked(parcel{bytes: len(b)})
}

func (p *pipe) readLocked(b []byte) int {
	n, _ := p.buffer.Read(b[:min(len(b), p.arrived)]) // fails only when empty, and then n is 0
	p.arrived -= n
	p.moved.Broadcast()
	return n
}

// sendLocked puts something on its way. It never arrives before what was sent
// earlier.
func (p *pipe) sendLocked(what parcel) {
	switch {
	case p.cut:
	case !p.openLocked():
		p.stallLocked(what)
	default:
		if at := p.net.arrivalLocked(); at.After(p.latest) {
			p.latest = at
		}
		p.net.sendLocked(p.latest, func() { p.arriveLocked(what) })
	}
}

func (p *pipe) arriveLocked(what parcel) {
	switch {
	case p.cut:
	case !p.openLocked():
		p.stallLocked(what)
	case p.to.closed:
		if what.bytes > 0 {
			p.to.out.sendLocked(parcel{reset: true}) // nobody will read this: say so
		}
	default:
		p.arrived += what.bytes
		p.ended = p.ended || what.end
		if what.reset {
			p.to.failLocked()
		}
		p.moved.Broadcast()
	}
}

// stallLocked lets something wait until the path opens. For bytes and the end
// that is what repetition comes to on a real network. A real reset is lost, and
// sent again in answer to whatever the other end says next; here it comes
// without being asked for.
func (p *pipe) stallLocked(what parcel) {
	if p.stalled == (parcel{}) {
		p.net.stalled = append(p.net.stalled, p)
	}
	p.stalled.bytes += what.bytes
	p.stalled.end = p.stalled.end || what.end
	p.stalled.reset = p.stalled.reset || what.reset
}

// resumeLocked sends what stalled; it stalls again when the path is not open.
func (p *pipe) resumeLocked() {
	what := p.stalled
	p.stalled = parcel{}
	if what != (parcel{}) {
		p.sendLocked(what)
	}
}

func (p *pipe) openLocked() bool {
	return p.net.openLocked(p.from.local.Addr(), p.to.local.Addr())
}
