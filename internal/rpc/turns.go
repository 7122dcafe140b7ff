package rpc

import (
	"net/http"
	"sync"
	"time"
)

// turns are leave to read a large request: maxLargeRequests at once, and of one client
// largeRequestsOfOne.
//
// Threat C10: a client that sends large requests on all of its connections, slowly, holds
// up its own and not those of others.
type turns struct {
	all chan struct{} // full: all are taken

	mu  sync.Mutex
	own map[clientKey]*ownTurns
}

// ownTurns are those of a client that has some or waits for one.
type ownTurns struct {
	taken chan struct{}
	users int // who has or wants one; guarded by turns.mu
}

func newTurns() *turns {
	return &turns{all: make(chan struct{}, maxLargeRequests), own: make(map[clientKey]*ownTurns)}
}

// take waits so long at most for a turn, first for one of the client's own: whoever waits
// for that is in nobody else's way. It is false when there was none.
func (t *turns) take(client clientKey, patience time.Duration) bool {
	over := time.NewTimer(patience)
	defer over.Stop()
	own := t.enter(client)
	select {
	case own.taken <- struct{}{}:
	case <-over.C:
		t.leave(client, own)
		return false
	}
	select {
	case t.all <- struct{}{}:
		return true
	case <-over.C:
		<-own.taken
		t.leave(client, own)
		return false
	}
}

// giveBack ends what one take allowed.
func (t *turns) giveBack(client clientKey) {
	<-t.all
	t.mu.Lock()
	own := t.own[client]
	t.mu.Unlock()
	<-own.taken
	t.leave(client, own)
}

func (t *turns) enter(client clientKey) *ownTurns {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := t.own[client]
	if own == nil {
		own = &ownTurns{taken: make(chan struct{}, largeRequestsOfOne)}
		t.own[client] = own
	}
	own.users++
	return own
}

// leave forgets a client that has none and waits for none.
func (t *turns) leave(client clientKey, own *ownTurns) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if own.users--; own.users == 0 {
		delete(t.own, client)
	}
}

// callerOf is the key of the certificate that a request came with. Without TLS, which only
// a test is, all are one caller.
func callerOf(r *http.Request) clientKey {
	if r.TLS == nil {
		return clientKey{}
	}
	client, _ := keyOf(*r.TLS)
	return client
}
