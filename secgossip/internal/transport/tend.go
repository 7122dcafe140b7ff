package transport

import (
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// answerByStream is from which try on an answer also goes by stream. The asker
// has heard none of the earlier ones: either its challenges get lost, and then
// this one would not be here, or our answers do.
const answerByStream = 3

// maxChecks is how many challenges are sent in one second, when many paths are
// new at once: 40 KB.
const maxChecks = 32

// recheckEvery is how often credentials are checked again of nodes that say
// nothing new about themselves.
const recheckEvery = time.Minute

// tend looks after the peers until Shutdown: are datagrams getting there, are they
// still members.
func (t *Transport) tend() {
	paths, credentials := time.NewTicker(tryEvery), time.NewTicker(recheckEvery)
	defer paths.Stop()
	defer credentials.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-paths.C:
			t.checkPaths()
		case <-credentials.C:
			t.sessions.recheck()
		}
	}
}

// checkPaths sends the challenges that are due.
func (t *Transport) checkPaths() {
	sessions := t.sessions.all() // in random order: none always comes last
	interval := max(checkEvery, time.Duration(len(sessions))*checkShare)
	sent := 0
	for _, p := range sessions {
		if sent < maxChecks && !p.out.Load() && p.path.due(t.now(), interval) && t.challenge(p) {
			sent++
		}
	}
}

// challenge sends the next challenge to a peer. It goes by datagram or not at
// all, and takes what it learns from that alone.
func (t *Transport) challenge(p *session) bool {
	endpoints := t.sessions.reachable(p)
	sender := p.sending.Load()
	if sender == nil || len(endpoints) == 0 {
		return false
	}
	var token [8]byte
	rand.Read(token[:])
	c, at := p.path.ask(t.now(), token, endpoints)
	// Refused by our own host it does not arrive, as if it were lost on the way.
	_ = t.sealAndWrite(sender, at, wire.PacketPathChallenge, c.Append(nil))
	return true
}

// answerChallenge answers a challenge that came by datagram.
func (t *Transport) answerChallenge(from *guard.Peer, payload []byte) error {
	c, err := wire.ParseChallenge(payload)
	if err != nil {
		return err
	}
	p := t.sessions.get(from.Name)
	if p == nil {
		return nil
	}
	// Not t.Send: to answer is not to use a path, or two nodes that have nothing
	// to say would keep each other busy for good.
	blocked, _ := p.path.state()
	response := wire.Response{Token: c.Token, Time: t.config.Clock()}.Append(nil)
	if !blocked {
		// What does not get there is asked for again.
		_ = t.sendDatagram(p, wire.PacketPathResponse, response)
	}
	if blocked || c.Try >= answerByStream {
		t.carry(p, wire.PacketPathResponse, response)
	}
	return nil
}

// takeResponse notes that a challenge of ours got through.
func (t *Transport) takeResponse(from *guard.Peer, payload []byte) error {
	response, err := wire.ParseResponse(payload)
	if err != nil {
		return err
	}
	p := t.sessions.get(from.Name)
	if p == nil {
		return nil
	}
	sent, reopened, ok := p.path.answered(response.Token)
	if !ok {
		return nil // late, or made up: it says nothing
	}
	p.seen.Store(&sent.to)
	p.readClock(response.Time, sent.at, t.now())
	if reopened {
		t.logger.Info("udp to a node works again", slog.String("node", string(from.Name)))
	}
	return nil
}
