package secgossip

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// issuer makes an authority that the root has signed.
func (c *cluster) issuer(name string) *pki.Authority {
	c.t.Helper()
	key := must(keyring.NewSigningKey())(c.t)
	der := must(c.root.Issuer(pki.Name(name), key.Public().(ed25519.PublicKey), time.Now()))(c.t)
	return must(pki.NewAuthority(must(x509.ParseCertificate(der))(c.t), key, c.root.Trust()))(c.t)
}

// issuedBy gives a host an identity that an issuer signs, in the place of the root's.
func (c *cluster) issuedBy(authority *pki.Authority, h *host, roles ...pki.Role) {
	c.t.Helper()
	h.issued = must(authority.Node(pki.NodeRequest{
		Name: pki.Name(h.name), SigningKey: h.identity.Signing.Public().(ed25519.PublicKey),
		AgreementKey: h.identity.Agreement.Public(), Roles: roles,
	}, time.Now()))(c.t)
	own := &tls.Certificate{Certificate: h.issued.Chain, PrivateKey: h.identity.Signing}
	h.identity.Credential = h.issued.Credential
	h.identity.Certificate = func() (*tls.Certificate, error) { return own, nil }
	h.settings = func(config *Config) { must(config.Trust.AddIssuer(h.issued.Chain[1], time.Now()))(c.t) }
}

// A node starts without the issuers of others. What it knew of revocations holds from
// its start all the same, and once it says so itself, for newcomers too.
func TestRevocationOutlivesARestartWithoutItsKeepersIssuer(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, k, x := c.host("a"), c.host("b"), c.host("k"), c.host("x")
		c.issuedBy(c.issuer("k"), k, pki.RoleKeeper)
		a.start()
		for _, h := range []*host{b, k, x} {
			h.start().join(a)
		}
		c.settle()
		k.revoke(VerbBan, "x")
		c.settle()
		for _, h := range []*host{a, b, k} { // k is gone for good
			h.stop()
		}
		for _, h := range []*host{b, a} {
			h.start()
			x.refusedAt("after a restart", h)
		}
		b.join(a)
		time.Sleep(2 * keepEvery)
		x.refusedAt("when they met", b)
		d := c.host("d").start().join(b)
		x.refusedAt("a newcomer was told", d)
	})
}

// An issuer lives for a year, and newcomers do not take in one that has ended. Before
// that, another keeper says what its keepers said.
func TestRevocationOutlivesItsKeepersIssuer(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, k, x := c.host("a"), c.host("k"), c.host("x")
		c.issuedBy(c.issuer("k"), k, pki.RoleKeeper)
		a.start()
		k.start().join(a)
		x.start().join(a)
		c.settle()
		k.revoke(VerbBan, "x")
		c.settle()
		k.stop()
		now := time.Now().Add(pki.IssuerLife - 20*24*time.Hour)
		if got := len(a.node.revocations.orphans(now, now.Add(pki.RootLife))); got != 1 {
			t.Errorf("%d are to be said again 20 days before the issuer's end, want 1", got)
		}
		if got := len(a.node.revocations.orphans(time.Now(), now.Add(pki.RootLife))); got != 0 {
			t.Errorf("%d are to be said again at once, want none", got)
		}
	})
}

// A void keeper's word displaces nothing that would count without it.
func TestWhatAVoidKeeperSaidDisplacesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, k, x := c.host("a"), c.host("k", pki.RoleKeeper), c.host("x")
		ban := evictionOf(x, 10)
		ban.Verb, ban.Before = wire.VerbBan, wire.Forever
		unban := evictionOf(x, 50)
		unban.Verb = wire.VerbUnban
		r := newRevocations(c.trust(), slog.New(slog.DiscardHandler), time.Now, func() {}, func([][]byte) {})
		r.load(filepath.Join(t.TempDir(), revocationsFile), time.Now())
		for _, items := range [][][]byte{
			c.signRevocation(a, ban), c.signRevocation(k, unban), c.signRevocation(a, evictionOf(k, 20)),
		} {
			r.Learn(items)
		}
		later := time.Now().Add(time.Hour)
		if !r.Revoked(pki.KindNode, "x", x.identity.Signing.Public().(ed25519.PublicKey), later) {
			t.Error("the ban is forgotten: a keeper ended it that was void by then")
		}
	})
}

// An evicted keeper says something milder about itself, later.
func TestKeeperSaysNothingAboutItself(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, k := c.host("a"), c.host("k", pki.RoleKeeper)
		mild := evictionOf(k, 30)
		mild.Before = time.Now().Add(-time.Hour)
		eviction, itself := c.signRevocation(a, evictionOf(k, 20)), c.signRevocation(k, mild)
		for _, order := range [][][][]byte{{eviction, itself}, {itself, eviction}} {
			r := newRevocations(c.trust(), slog.New(slog.DiscardHandler), time.Now, func() {}, func([][]byte) {})
			for _, items := range order {
				r.Learn(items)
			}
			if !r.Revoked(pki.KindNode, "k", k.identity.Signing.Public().(ed25519.PublicKey), time.Now().Add(-time.Minute)) {
				t.Error("k is valid again")
			}
		}
	})
}

// A keeper whose clock is behind evicts again: nothing that was void is valid by it.
func TestEvictionIsNeverEarlierThanTheOneBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, k, x := c.host("a"), c.host("k", pki.RoleKeeper), c.host("x")
		a.start()
		x.start().join(a)
		c.settle()
		ahead := evictionOf(x, 60_000)
		a.node.revocations.Learn(c.signRevocation(k, ahead))
		said := must(a.node.revoke(Order{Verb: VerbEvict, Name: "x"}, time.Now()))(t)
		if !said[0].Issued.After(ahead.Issued) || said[0].Before.Before(ahead.Before.Truncate(time.Millisecond)) {
			t.Errorf("got %+v, want it after %+v", said[0].Revocation, ahead)
		}
	})
}

// A home was stolen before its node ever joined: nobody knows its key.
func TestNodeThatNeverJoinedCanBeBanned(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		x := c.host("x")
		if _, err := a.node.Revoke(t.Context(), Order{Verb: VerbEvict, Name: "x"}); !errors.Is(err, ErrRevoke) {
			t.Errorf("evicting a node that nobody knows: got %v, want ErrRevoke", err)
		}
		if _, err := a.node.Revoke(t.Context(), Order{Verb: VerbBan, Name: "x"}); err != nil {
			t.Fatal(err)
		}
		x.start()
		for _, h := range []*host{a, b} {
			if _, err := x.node.Join(t.Context(), []string{h.addr.String()}); err == nil {
				t.Errorf("x joined by %s", h.name)
			}
		}
		c.settle()
		if got := x.epochs(); got != "1*" {
			t.Errorf("x holds %q, want %q", got, "1*")
		}
	})
}
