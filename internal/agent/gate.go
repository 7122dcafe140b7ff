package agent

import (
	"io"
	"sync"
)

// gate holds back what is written until it is opened: what an agent logs while
// it starts comes after the banner, as in Serf.
type gate struct {
	mu   sync.Mutex
	to   io.Writer
	held []byte
	open bool
}

// maxHeld bounds what is held back, in bytes; starting takes a few lines. What
// would be more passes at once.
const maxHeld = 64 << 10

func (g *gate) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open || len(g.held)+len(b) > maxHeld {
		return g.to.Write(b)
	}
	g.held = append(g.held, b...)
	return len(b), nil
}

// release writes first, then what was held back, and holds back no more.
func (g *gate) release(first string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open {
		return
	}
	g.open = true
	// Nobody could be told that the log cannot be written.
	_, _ = io.WriteString(g.to, first)
	_, _ = g.to.Write(g.held)
	g.held = nil
}
