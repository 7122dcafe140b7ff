package transport

import (
	"bytes"
	"crypto/subtle"
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// A node may come with an issuer that nobody has heard of. The root vouches.
func TestIssuerIsLearnedFromWhoeverItVouchesFor(t *testing.T) {
	for _, dialler := range []string{"the newcomer", "the other"} {
		inBubble(t, func(t *testing.T, c *cluster) {
			b, x := c.node("b").start(), c.node("x")
			keeper := c.node("keeper")
			der := must(c.root.Issuer("keeper", keeper.public(), time.Now()))(t)
			issuer := must(pki.NewAuthority(must(x509.ParseCertificate(der))(t), keeper.signing, c.trust()))(t)
			x.issued = must(issuer.Node(nodeRequest(x)))(t)
			x.issuer = der
			x.start()
			from, to := x, b
			if dialler == "the other" {
				from, to = b, x
			}
			conn, err := from.DialTimeout(to.addr.String(), 10*time.Second)
			if err != nil {
				t.Fatalf("%s dials: %v", dialler, err)
			}
			(<-to.StreamCh()).Close()
			conn.Close()
			if b.of(x) == nil || len(b.config.Trust.Issuers()) != 1 {
				t.Errorf("%s dials: b knows %v and %d issuers", dialler, b.of(x), len(b.config.Trust.Issuers()))
			}
		})
	}
}

// Issuers are passed on, and in whatever order they came does not show.
func TestMembersOfManyIssuersHaveNothingToTellEachOther(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		var issuers [][]byte
		for _, name := range []pki.Name{"k1", "k2", "k3"} {
			issuers = append(issuers, must(c.root.Issuer(name, c.node(string(name)).public(), time.Now()))(t))
		}
		for i, der := range issuers {
			must(a.config.Trust.AddIssuer(der, time.Now()))(t)
			must(b.config.Trust.AddIssuer(issuers[len(issuers)-1-i], time.Now()))(t)
		}
		if a.knownDigest() != b.knownDigest() {
			t.Error("the order in which issuers were learned shows")
		}
		before := a.knownDigest()
		b.say(func(*wire.Record) {})
		a.learn(b)
		if a.knownDigest() == before {
			t.Error("a record does not show")
		}
	})
}

// Revocations are passed on before records and epochs, in both directions.
func TestRevocationsAreToldInASync(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		a.revoked.Learn([][]byte{[]byte("one"), []byte("its credential")})
		b.revoked.Learn([][]byte{[]byte("two"), []byte("its credential")})
		if a.knownDigest() == b.knownDigest() {
			t.Fatal("a revocation does not show")
		}
		must(a.Sync(t.Context(), b.to()))(t)
		for _, n := range []*node{a, b} {
			if got := len(n.revoked.Revocations()); got != 3 {
				t.Errorf("%s has %d items, want 3", n.name, got)
			}
		}
	})
}

func TestEpochsAreFetchedWhereTheyAre(t *testing.T) {
	for _, dialler := range []string{"the one that lacks it", "the one that has it"} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a, b := c.pair()
			b.ledger.secrets[2], b.ledger.highest = bytes.Repeat([]byte{2}, 32), 2
			a.ledger.wanted = []wire.SecretRequest{{Number: 2}}
			from, to := a, b
			if dialler == "the one that has it" {
				from, to = b, a
			}
			counted := &countedNetwork{Network: from.network}
			from.config.Network = counted
			state, err := from.Sync(t.Context(), to.to())
			if open := counted.open.Load(); open != 0 || len(from.open.conns) != 0 {
				t.Errorf("%s dials: %d connections are open after the sync, %d counted", dialler, open, len(from.open.conns))
			}
			if err != nil || state != (State{Lowest: 1, Highest: 2, Primary: 1}) {
				t.Errorf("%s dials: %+v, %v", dialler, state, err)
			}
			if handed := b.ledger.handed; len(handed) != 1 || !bytes.Equal(handed[0], make([]byte, 32)) {
				t.Errorf("%s dials: what was sent is still in memory: %x", dialler, handed)
			}
			if got := a.ledger.secrets[2]; !bytes.Equal(got, b.ledger.secrets[2]) {
				t.Errorf("%s dials: a has %x", dialler, got)
			}
		})
	}
}

// Threat L03: what TLS keeps in its buffers is not the secret, and is another for
// every request.
func TestSecretIsUnderAMaskInsideTLS(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b, x := c.node("b").start(), c.node("x").start()
		secret := bytes.Repeat([]byte{2}, 32)
		b.ledger.secrets[2] = secret
		conn := x.proveTo(b)
		x.sendHello(conn, x.hello(wire.PurposeEpoch))
		x.readHello(conn, pki.Identity{Name: "b", Key: b.public()})
		x.sendKnown(conn)
		x.readKnown(conn)
		x.sendStatements(conn)
		x.readStatements(conn)
		seen := make(map[string]bool)
		for i := range byte(3) {
			request := wire.SecretRequest{Number: 2, Commitment: [32]byte{i}}
			wire.WriteFrame(conn, wire.FrameSecretRequest, request.Append(nil))
			_, body, err := wire.ReadFrame(conn, wire.FrameSecret)
			if err != nil {
				t.Fatal(err)
			}
			if seen[string(body)] || bytes.Contains(body, secret[:8]) {
				t.Errorf("request %d was answered with %x", i, body)
			}
			seen[string(body)] = true
			// As the document has it.
			state := conn.ConnectionState()
			pad := must(state.ExportKeyingMaterial("secgossip/1 mask", request.Append(nil), 32))(t)
			if subtle.XORBytes(body, body, pad); !bytes.Equal(body, secret) {
				t.Errorf("request %d: below the mask is %x", i, body)
			}
		}
		conn.NetConn().Close()
	})
}

func TestEpochThePeerHasDroppedIsNoError(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		a.ledger.wanted = []wire.SecretRequest{{Number: 7}}
		if state, err := a.Sync(t.Context(), b.to()); err != nil || state != (State{Lowest: 1, Highest: 1, Primary: 1}) {
			t.Errorf("%+v, %v", state, err)
		}
	})
}

// Threats C07, C08: who holds a certificate is only who it says. Its record must
// be its own.
func TestMemberWithAnothersRecordIsRefused(t *testing.T) {
	for claim, borrow := range map[string]func(x, d *node){
		"another's record": func(x, d *node) { x.show(d.shown()) },
		"a record in another's name": func(x, d *node) {
			x.show(x.sign(func(r *wire.Record) { r.Name = "d" }))
		},
		"a record with another's credential": func(x, d *node) {
			x.show(x.sign(func(r *wire.Record) { r.Name, r.Credential = "d", d.issued.Credential }))
		},
		"a record for another cluster": func(x, d *node) {
			other := newCluster(x.t, "demo")
			x.show(must(wire.SignRecord(x.signing, other.root.Trust().Cluster(), wire.Record{
				Name: "x", Sequence: 1 << 50, Boot: x.boot, Endpoints: x.endpoints, Credential: x.issued.Credential,
			}))(x.t))
		},
		"its own record under another name": func(x, d *node) {
			twin := *d.c.node("twin")
			twin.signing, twin.agreement, twin.boot = x.signing, x.agreement, x.boot
			twin.issued = must(d.c.root.Node(nodeRequest(&twin)))(x.t)
			x.show(twin.sign(func(*wire.Record) {}))
		},
		"the record of who took its place": func(x, d *node) {
			next := x.c.node("next")
			next.name = "x"
			time.Sleep(time.Minute)
			next.issued = must(d.c.root.Node(nodeRequest(next)))(x.t)
			next.boot[0] = 1
			x.show(next.sign(func(*wire.Record) {}))
		},
		"no record at all": func(x, d *node) { x.show([]byte("nothing")) },
		"a damaged record": func(x, d *node) { x.shown()[len(x.shown())-1] ^= 1 },
	} {
		t.Run(claim, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				b, d, x := c.node("b").start(), c.node("d").start(), c.node("x").start()
				b.learn(d)
				x.learn(b)
				borrow(x, d)
				before := b.Counters()
				if _, err := x.DialAddressTimeout(b.to(), 10*time.Second); err == nil {
					t.Error("b let it in")
				}
				synctest.Wait()
				b.counts("as the listener", before, map[string]uint64{"streams_refused": 1})
				if _, err := b.DialTimeout(x.addr.String(), 10*time.Second); err == nil {
					t.Error("b was content when it dialled itself")
				}
				if p := b.of(x); p != nil && p.Key() == [32]byte(x.public()) || b.of(d).Key() != [32]byte(d.public()) {
					t.Error("b's roster is not what it was")
				}
				b.nothingLogged(claim)
				select {
				case <-b.StreamCh():
					t.Error("memberlist was given a stream")
				default:
				}
			})
		})
	}
}

// Threat C11: a proven member that does not speak as we do.
func TestMemberThatSpeaksOtherwiseIsRefusedAtOnce(t *testing.T) {
	for claim, says := range map[string][]byte{
		"HTTP":                    []byte("GET / HTTP/1.1\r\n\r\n"),
		"a frame nobody knows":    {99, 0, 0, 0, 0},
		"a frame out of turn":     {byte(wire.FrameRoster), 0, 0, 0, 0},
		"a frame beyond its size": {byte(wire.FrameHello), 0xff, 0xff, 0xff, 0xff},
		"an empty hello":          {byte(wire.FrameHello), 0, 0, 0, 0},
		"a refusal":               {byte(wire.FrameRefusal), 0, 0, 0, 1, byte(wire.RefusedBusy)},
	} {
		inBubble(t, func(t *testing.T, c *cluster) {
			b, x := c.node("b").start(), c.node("x").start()
			conn := x.proveTo(b)
			conn.Write(says)
			if got := hearOut(conn.NetConn()); got.after != 0 {
				t.Errorf("%s: the end came after %v", claim, got.after)
			}
			conn.NetConn().Close()
			synctest.Wait()
			b.counts(claim, nil, map[string]uint64{"streams_refused": 1})
			b.nothingLogged(claim)
		})
	}
}

// A member has MaxEpochs questions, and then is done.
func TestMemberThatNeverStopsAskingIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b, x := c.node("b").start(), c.node("x").start()
		conn := x.proveTo(b)
		x.sendHello(conn, x.hello(wire.PurposeEpoch))
		x.readHello(conn, pki.Identity{Name: "b", Key: b.public()})
		x.sendKnown(conn)
		x.readKnown(conn)
		x.sendStatements(conn)
		x.readStatements(conn)
		answers := 0
		for range 100 {
			wire.WriteFrame(conn, wire.FrameSecretRequest, wire.SecretRequest{Number: 1}.Append(nil))
			if _, _, err := wire.ReadFrame(conn, wire.FrameSecret); err != nil {
				break
			}
			answers++
		}
		if answers != wire.MaxEpochs+1 {
			t.Errorf("%d questions were answered, want %d", answers, wire.MaxEpochs+1)
		}
		conn.NetConn().Close()
		synctest.Wait()
		b.counts("asking on", nil, map[string]uint64{"streams_refused": 1})
	})
}

// A peer may show a record older than the one held, after its clock was set back.
// It is let in, told by the roster, and not believed.
func TestPeerWithAnOldRecordOfItsOwnIsLetIn(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		old := a.shown()
		a.say(func(*wire.Record) {})
		b.learn(a)
		newest := b.of(a)
		a.show(old)
		a.roster = guard.NewRoster(a.config.Trust, nil)
		a.config.Roster = a.roster
		must(a.roster.Admit(old, time.Now()))(t)
		a.learn(b)
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Error(err)
		}
		if b.of(a) != newest {
			t.Error("b believes the older record")
		}
		if got := a.roster.Get("a").Record.Sequence; got != newest.Record.Sequence {
			t.Errorf("a does not know of its own later record: %d, want %d", got, newest.Record.Sequence)
		}
	})
}
