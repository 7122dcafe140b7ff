package places

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// acceptPause is how long to wait after a failure to accept. Out of descriptors,
// most likely: waiting costs nothing, spinning would cost a processor, and giving
// up would end the service for good.
const acceptPause = 100 * time.Millisecond

// Serve accepts connections until ctx ends or listener is closed, and has each
// answered in a goroutine of its own. Whoever finds no place is closed without a
// word, and refused is called. When ctx ends all that hold a place are closed.
// Serve returns when every answer has.
//
// answer gives the place back as soon as the other end has proven who it is, and
// closes the connection, or whoever it hands it to does. When the connection is
// closed under it, it must soon come to its end.
func (p *Places) Serve(ctx context.Context, listener net.Listener, refused func(), answer func(*Conn)) {
	defer context.AfterFunc(ctx, p.closeAll)()
	var running sync.WaitGroup
	defer running.Wait()
	for {
		raw, err := listener.Accept()
		switch {
		case err == nil:
		case ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			return
		default:
			wait(ctx, acceptPause)
			continue
		}
		conn, yields := p.take(raw)
		if yields != nil {
			// Its answer is waiting for bytes or for a turn, and ends at once, or
			// is computing, and ends within a millisecond. Only then is there
			// another: otherwise a flood would leave behind it as many that are
			// ending as the processor cannot keep up with.
			yields.Close()
			<-yields.gone
		}
		if conn == nil {
			refused()
			raw.Close()
			continue
		}
		running.Go(func() {
			defer conn.GiveBack()
			answer(conn)
		})
		if ctx.Err() != nil {
			conn.Close() // closeAll may have been before it came
		}
	}
}

// closeAll closes all that hold a place.
func (p *Places) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.held {
		c.Conn.Close()
	}
}

// wait waits so long, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
