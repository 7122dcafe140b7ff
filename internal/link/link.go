// Package link is what the two processes of an agent say to each other: the runner,
// which runs handlers and opens no socket, and the network process, which has given up
// its rights before it hears anybody.
//
// Either end takes the other for broken into. A frame is a length of 4 bytes, the kind
// of a message in one, and the message in deterministic CBOR:
//
//	length   uint32, big endian: of kind and message, at most 64 KiB; some kinds
//	         may have more, the largest 1 MiB
//	kind     which message; each side has its own
//	message  a map with integer keys
//
// A frame that is not exactly what Append writes ends the link, and with it both
// processes. Sending never waits: what may be lost, events and results, makes room for
// what is newer, and is counted.
package link

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Side is one of the two ends.
type Side int

// The two ends.
const (
	Runner Side = iota
	Network
)

// MaxFrame is the most that a frame of most kinds holds, in bytes: see limit.
const MaxFrame = 64 << 10

const (
	// maxWaiting is how many messages that may be lost wait to be sent: the longest
	// queue that a handler has.
	maxWaiting = 1024
	// maxCommands is how many others may. There are never so many, unless the other
	// end reads no more.
	maxCommands = 4096
	// maxBytes bounds either of them: 64 runs with all of their output are 8 MiB.
	maxBytes = 12 << 20
	// stuck is how long the other end may take to read a frame, or to finish one that
	// it has begun. It does nothing that takes longer than a moment between two.
	stuck = 30 * time.Second
)

// ErrClosed says that the link has ended.
var ErrClosed = errors.New("the link between runner and network process is closed")

// Pipe is what a link runs over: one end of a socket pair.
type Pipe interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// Link is one end. Receive is for one goroutine, everything else for all.
type Link struct {
	side Side
	pipe Pipe
	in   *bufio.Reader

	mu       sync.Mutex
	queue    []queued
	losable  load // of those that may be lost
	certain  load // of the others
	dropped  uint64
	closing  bool
	wake     chan struct{}
	finished chan struct{} // closed when nothing is sent any more
}

type queued struct {
	frame   []byte
	losable bool
}

// load is how much of a kind waits.
type load struct{ messages, bytes int }

// full reports whether so many messages are too many, with one more of this size.
func (o load) full(most, size int) bool { return o.messages >= most || o.bytes+size > maxBytes }

func (l *Link) loadLocked(losable bool) *load {
	if losable {
		return &l.losable
	}
	return &l.certain
}

// New starts this side's end. Close it.
func New(pipe Pipe, side Side) *Link {
	l := &Link{side: side, pipe: pipe, in: bufio.NewReader(pipe), wake: make(chan struct{}, 1), finished: make(chan struct{})}
	go l.send()
	return l
}

// Send queues a message that must arrive.
func (l *Link) Send(m Message) error { return l.enqueue(m, false) }

// Offer queues a message in place of the oldest of its like, should there be no room.
func (l *Link) Offer(m Message) error { return l.enqueue(m, true) }

// Dropped is how many messages were lost so far because the other end was too slow.
func (l *Link) Dropped() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

func (l *Link) enqueue(m Message, losable bool) error {
	if l.side.empty(m.kind()) == nil {
		return fmt.Errorf("internal error: message of kind %d from the wrong side", m.kind())
	}
	frame, err := Append(make([]byte, 4), m)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return ErrClosed
	}
	for losable && l.losable.full(maxWaiting, len(frame)) {
		l.dropOldestLocked()
	}
	if !losable && l.certain.full(maxCommands, len(frame)) {
		return errors.New("the other process of the agent reads no more")
	}
	l.queue = append(l.queue, queued{frame, losable})
	waiting := l.loadLocked(losable)
	waiting.messages++
	waiting.bytes += len(frame)
	l.wakeLocked()
	return nil
}

// dropOldestLocked makes room. There is something to drop: no frame is larger than all
// that may wait.
func (l *Link) dropOldestLocked() {
	for i, q := range l.queue {
		if q.losable {
			l.queue = slices.Delete(l.queue, i, i+1)
			l.goneLocked(q)
			l.dropped++
			return
		}
	}
}

// goneLocked is called for what waits no more.
func (l *Link) goneLocked(q queued) {
	waiting := l.loadLocked(q.losable)
	waiting.messages--
	waiting.bytes -= len(q.frame)
}

func (l *Link) wakeLocked() {
	select {
	case l.wake <- struct{}{}:
	default: // a token is there already
	}
}

// send writes what is queued until the link is closed and nothing is left, or the
// other end is gone.
func (l *Link) send() {
	defer close(l.finished)
	for {
		frame, over := l.next()
		if over {
			return
		}
		if frame == nil {
			<-l.wake // by enqueue or Close
			continue
		}
		if err := l.pipe.SetWriteDeadline(time.Now().Add(stuck)); err != nil {
			return
		}
		if _, err := l.pipe.Write(frame); err != nil {
			l.mu.Lock()
			l.closing, l.queue, l.losable, l.certain = true, nil, load{}, load{}
			l.mu.Unlock()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				l.pipe.Close() // which ends Receive
			}
			return // it is gone: Receive ends behind its last word
		}
	}
}

func (l *Link) next() (frame []byte, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil, l.closing
	}
	q := l.queue[0]
	l.queue[0] = queued{} // let go of the frame
	l.queue = l.queue[1:]
	l.goneLocked(q)
	return q.frame, false
}

// Receive returns the next message of the other side. It waits as long as that says
// nothing; the error is io.EOF when it has ended. After an error there is nothing to
// be received any more.
func (l *Link) Receive() (Message, error) {
	if err := l.pipe.SetReadDeadline(time.Time{}); err != nil {
		return nil, gone(err)
	}
	if _, err := l.in.Peek(1); err != nil {
		return nil, gone(err)
	}
	if err := l.pipe.SetReadDeadline(time.Now().Add(stuck)); err != nil {
		return nil, err
	}
	frame, err := readFrame(l.in)
	if err != nil {
		return nil, err
	}
	other := Runner
	if l.side == Runner {
		other = Network
	}
	return other.Parse(frame)
}

// gone makes one of the ways to say that nobody is there any more.
func gone(err error) error {
	for _, way := range []error{io.ErrClosedPipe, os.ErrClosed, syscall.ECONNRESET} {
		if errors.Is(err, way) {
			return io.EOF
		}
	}
	return err
}

// readFrame reads a frame and nothing behind it. No more is allocated than its kind may
// have.
func readFrame(from io.Reader) ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(from, head[:4]); err != nil {
		return nil, fmt.Errorf("reading a frame: %w", err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size == 0 {
		return nil, errors.New("a frame of no bytes")
	}
	if _, err := io.ReadFull(from, head[4:]); err != nil {
		return nil, fmt.Errorf("reading a frame: %w", err)
	}
	if most := limit(head[4]); int64(size) > int64(most) {
		return nil, fmt.Errorf("a frame of %d bytes, of kind %d: %d is the most", size, head[4], most)
	}
	frame := make([]byte, size)
	frame[0] = head[4]
	if _, err := io.ReadFull(from, frame[1:]); err != nil {
		return nil, fmt.Errorf("reading a frame: %w", err)
	}
	return frame, nil
}

// closeTime is how long Close waits for what is queued to be sent.
const closeTime = 2 * time.Second

// Close sends what is queued, for a moment, and ends the link.
func (l *Link) Close() error {
	l.mu.Lock()
	l.closing = true
	l.wakeLocked()
	l.mu.Unlock()
	select {
	case <-l.finished:
	case <-time.After(closeTime):
	}
	err := l.pipe.Close()
	<-l.finished // a write that waited has ended now
	return err
}
