package transport

import (
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Certificates, roots and revocations are asked for when they are needed. A change
// of any applies to what runs, without a restart.

// A story: a is revoked while it talks to b, and nobody tells b to look. Within a
// minute it is shut out of everything; and once that is taken back it goes on where it was, with its windows.
func TestRevokedPeerIsShutOutOfWhatRuns(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		a.carry(a.sessions.get("b"), wire.PacketGossip, must(wire.Gossip{Packet: ackOf(1)}.Append(nil))(t))
		record := c.recorded()
		a.gossip(b, ackOf(2))
		if got := len(b.delivered()); got != 2 {
			t.Fatalf("%d packets arrived before, want 2", got)
		}
		b.config.Trust.SetRevoked(func(_ pki.Kind, name pki.Name, _ ed25519.PublicKey, _ time.Time) bool { return name == "a" })
		if _, err := a.Sync(t.Context(), b.to()); err == nil {
			t.Error("b takes a stream at once after the revocation")
		}
		if _, err := b.Sync(t.Context(), a.to()); !errors.Is(err, pki.ErrRevoked) {
			t.Errorf("b dials a: got %v, want ErrRevoked", err)
		}
		time.Sleep(recheckEvery)
		synctest.Wait()
		if got := b.streams(); got != 0 {
			t.Errorf("%d streams with a are still open", got)
		}
		before := b.Counters()
		a.gossip(b, ackOf(3))
		b.counts("a packet of a's", before, map[string]uint64{"drop_sender": 1})
		if _, err := b.WriteToAddress(ackOf(1), a.to()); err == nil {
			t.Error("b sends to a")
		}

		b.config.Trust.SetRevoked(nil)
		time.Sleep(recheckEvery)
		synctest.Wait()
		a.gossip(b, ackOf(4))
		if got := len(b.delivered()); got != 1 {
			t.Errorf("%d packets arrived after it was taken back, want 1", got)
		}
		before = b.Counters()
		for _, d := range (*record)[:1] {
			b.inject(d.Data, d.From)
		}
		b.counts("a packet from before", before, map[string]uint64{"drop_replay": 1})
		if b.logged("node is shut out") != 1 || b.logged("node is let in again") != 1 || b.logged("\n")-b.logged("strangers turned away") != 2 {
			t.Errorf("b logged\n%s", b.log.String())
		}
	})
}

// Threat K15: told of a revocation, a node closes the streams of whom it is about, at
// once, and those of nobody else.
func TestRevocationClosesStreamsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		d := c.node("d").start().learn(b)
		b.learn(d)
		for _, n := range []*node{a, d} {
			conn := must(n.DialAddressTimeout(b.to(), time.Second))(t)
			defer conn.Close()
			defer (<-b.StreamCh()).Close()
		}
		dialled := must(b.DialAddressTimeout(a.to(), time.Second))(t)
		defer dialled.Close()
		defer (<-a.StreamCh()).Close()
		if got := len(b.open.conns); got != 3 {
			t.Fatalf("%d streams are open, want 3", got)
		}
		b.config.Trust.SetRevoked(func(_ pki.Kind, name pki.Name, _ ed25519.PublicKey, _ time.Time) bool { return name == "a" })
		b.Recheck()
		if _, err := dialled.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading from a's stream: %v, want that it is closed", err)
		}
		closed := 0
		for conn, who := range b.open.conns {
			if _, err := conn.Write(nil); err != nil {
				closed++
			} else if who.name == "a" {
				t.Error("a stream of a's is open")
			}
		}
		if closed != 2 {
			t.Errorf("%d streams are closed, want a's two", closed)
		}
		before := b.Counters()
		a.gossip(b, ackOf(3))
		b.counts("a packet of a's", before, map[string]uint64{"drop_sender": 1})
	})
}

// unsecured has no keys to make a mask of.
type unsecured struct{ net.Conn }

func (unsecured) ConnectionState() tls.ConnectionState { return tls.ConnectionState{} }

// A secret is asked for on a stream that was open before. It is not handed out.
func TestNoSecretIsServedToWhoWasRevokedMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		b.config.Trust.SetRevoked(func(_ pki.Kind, name pki.Name, _ ed25519.PublicKey, _ time.Time) bool { return name == "a" })
		go wire.WriteFrame(theirs, wire.FrameSecretRequest, wire.SecretRequest{Number: 1}.Append(nil))
		if _, err := b.serve(unsecured{ours}, b.of(a)); !errors.Is(err, pki.ErrRevoked) {
			t.Errorf("got %v, want ErrRevoked", err)
		}
		if len(b.ledger.handed) != 0 {
			t.Error("a secret was handed out")
		}
	})
}

// A node whose credential ends is not heard any more, and at once again when it
// shows another for the same key: it need not restart.
func TestNodeWhoseCredentialEndsIsHeardAgainOnceRenewed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.node("a"), c.node("b").start()
		request, now := nodeRequest(a)
		request.Life = pki.MinLife
		a.issued = must(c.root.Node(request, now))(t)
		a.start().learn(b)
		b.learn(a)
		a.gossip(b, ackOf(1))
		time.Sleep(pki.MinLife + pki.Tolerance + recheckEvery)
		synctest.Wait()
		a.gossip(b, ackOf(2))
		if got := len(b.delivered()); got != 1 {
			t.Errorf("%d packets arrived, want the one from before the end", got)
		}
		a.issued = must(c.root.Node(nodeRequest(a)))(t)
		must(b.roster.Admit(a.say(func(*wire.Record) {}), time.Now()))(t)
		a.gossip(b, ackOf(3))
		if got := len(b.delivered()); got != 1 {
			t.Errorf("%d packets arrived after the renewal, want 1", got)
		}
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Errorf("a stream after the renewal: %v", err)
		}
	})
}

func TestCertificatesAndRootsAreAskedForAtEveryHandshake(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		sync := func() error {
			_, err := a.Sync(t.Context(), b.to())
			return err
		}
		if err := sync(); err != nil {
			t.Fatal(err)
		}
		// a's certificate becomes one that b's roots know nothing of.
		next := newCluster(t, "demo")
		ours := a.issued
		theirs := must(next.root.Node(nodeRequest(a)))(t)
		a.issued = &pki.Issued{Chain: theirs.Chain, Credential: ours.Credential}
		if err := sync(); err == nil {
			t.Error("b takes a certificate of a root it does not know")
		}
		// Both hear of that root.
		both := append(append([]byte{}, c.bundle...), next.bundle...)
		for _, n := range []*node{a, b} {
			if err := n.config.Trust.Replace(both); err != nil {
				t.Fatal(err)
			}
		}
		if err := sync(); err != nil {
			t.Errorf("with both roots: %v", err)
		}
		if err := b.config.Trust.Replace(c.bundle); err != nil {
			t.Fatal(err)
		}
		if err := sync(); err == nil {
			t.Error("b still takes a certificate of a root that is gone")
		}
		a.issued = ours
		if err := sync(); err != nil {
			t.Errorf("with the certificate as it was: %v", err)
		}
	})
}
