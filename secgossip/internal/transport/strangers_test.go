package transport

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/secgossip/internal/memnet"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// refusal is what a stranger got out of a connection.
type refusal struct {
	bytes []byte
	err   error
	after time.Duration
}

// hearOut reads until the other end closes.
func hearOut(conn net.Conn) refusal {
	start := time.Now()
	got, err := io.ReadAll(conn)
	return refusal{bytes: got, err: err, after: time.Since(start)}
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

// Threats N07, N08, N10: without a knock of this cluster, of now and not used
// before, a stranger gets no byte and is gone within knockTimeout.
func TestStrangerWithoutAKnockGetsNoByte(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b := c.node("b").start()
		foreign := newCluster(t, "demo")
		sameKnock := newCluster(t, "demo")
		sameKnock.knock = c.knock
		at := func(when time.Time) []byte {
			return wire.MakeKnock(c.mac, c.root.Trust().Cluster(), when, [8]byte{}).Append(nil)
		}
		now := time.Now()
		hello := clientHello(t)
		for claim, test := range map[string]struct {
			says  []byte
			after time.Duration
		}{
			"nothing":                          {nil, knockTimeout},
			"one byte":                         {[]byte{0}, knockTimeout},
			"half a knock":                     {c.validKnock()[:16], knockTimeout},
			"all but the last byte of a knock": {c.validKnock()[:wire.KnockSize-1], knockTimeout},
			"31 zeros":                         {make([]byte, 31), knockTimeout},
			"32 zeros":                         {make([]byte, 32), 0},
			"much junk":                        {bytes.Repeat([]byte{0xff}, 60_000), 0},
			"TLS at once":                      {hello, 0},
			"HTTP":                             {[]byte("GET / HTTP/1.1\r\nHost: 203.0.113.1\r\n\r\n"), 0},
			"a memberlist push/pull":           {append([]byte{6}, make([]byte, 100)...), 0},
			"an old knock":                     {at(now.Add(-wire.KnockTolerance - time.Second)), 0},
			"a knock of the future":            {at(now.Add(wire.KnockTolerance + time.Hour)), 0},
			"a knock of 1970":                  {at(time.Unix(0, 0)), 0},
			"a knock of a foreign cluster":     {foreign.validKnock(), 0},
			"the same key, another cluster":    {sameKnock.validKnock(), 0},
			"a wrong knock and then TLS":       {append(foreign.validKnock(), hello...), 0},
		} {
			before := b.Counters()
			conn := dialFrom(t, c, "198.51.100.66", b)
			conn.Write(test.says)
			got := hearOut(conn)
			conn.Close()
			if len(got.bytes) != 0 || isTimeout(got.err) || got.after != test.after {
				t.Errorf("%s: got %x, %v after %v; want a close after %v", claim, got.bytes, got.err, got.after, test.after)
			}
			synctest.Wait()
			b.counts(claim, before, map[string]uint64{"strangers_dropped": 1})
			b.nothingHappened(claim)
		}
	})
}

// One byte a second is no way to stay.
func TestSlowKnockIsCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b := c.node("b").start()
		conn := dialFrom(t, c, "198.51.100.66", b)
		go func() {
			for _, one := range c.validKnock() {
				conn.Write([]byte{one})
				time.Sleep(time.Second)
			}
		}()
		if got := hearOut(conn); got.after != knockTimeout || len(got.bytes) != 0 {
			t.Errorf("closed after %v with %x", got.after, got.bytes)
		}
		conn.Close()
		time.Sleep(time.Minute)
	})
}

func TestKnockWithAFlippedBitOpensNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b := c.node("b").start()
		knock := c.validKnock()
		try := func(says []byte) []byte {
			conn := dialFrom(t, c, "198.51.100.66", b)
			defer conn.Close()
			conn.Write(append(says, clientHello(t)...))
			return hearOut(conn).bytes
		}
		for bit := range len(knock) * 8 {
			flipped := bytes.Clone(knock)
			flipped[bit/8] ^= 1 << (bit % 8)
			if got := try(flipped); len(got) != 0 {
				t.Fatalf("with bit %d flipped it is answered with %d bytes", bit, len(got))
			}
		}
		// All that shows something because the knock itself is answered, once.
		if got := try(knock); len(got) == 0 {
			t.Error("the knock as it was is not answered")
		}
		if got := try(knock); len(got) != 0 {
			t.Errorf("the knock is answered a second time, with %d bytes", len(got))
		}
	})
}

// A knock that was recorded opens nothing, as long as its time is accepted.
func TestReplayedKnockOpensNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		tap := &tappedNetwork{Network: a.network}
		a.config.Network = tap
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Fatal(err)
		}
		recorded := tap.first(wire.KnockSize)
		start := time.Now()
		for _, age := range []time.Duration{0, time.Second, wire.KnockTolerance, 2 * wire.KnockTolerance, 2*wire.KnockTolerance + time.Second, time.Hour} {
			time.Sleep(time.Until(start.Add(age)))
			before := b.Counters()
			conn := dialFrom(t, c, a.addr.Addr().String(), b)
			conn.Write(append(bytes.Clone(recorded), clientHello(t)...))
			if got := hearOut(conn); len(got.bytes) != 0 || got.after != 0 {
				t.Errorf("%v later: answered with %d bytes after %v", age, len(got.bytes), got.after)
			}
			conn.Close()
			synctest.Wait()
			b.counts(fmt.Sprint(age), before, map[string]uint64{"strangers_dropped": 1})
		}
	})
}

func TestKnocksAreRememberedWhileTheyAreValid(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	for skew := -wire.KnockTolerance; skew <= wire.KnockTolerance; skew += 10 * time.Second {
		for first := time.Duration(0); first < 5*wire.KnockTolerance; first += 7 * time.Second {
			m := newKnockMemory()
			m.first(wire.Knock{Millis: 1}, start) // when generations begin
			seen := start.Add(first)
			knock := wire.Knock{Millis: uint64(seen.Add(skew).UnixMilli())}
			if !m.first(knock, seen) {
				t.Fatalf("a new knock after %v is taken for a known one", first)
			}
			for now := seen; !now.After(seen.Add(skew + wire.KnockTolerance)); now = now.Add(5 * time.Second) {
				if m.first(knock, now) {
					t.Fatalf("a knock of %v is forgotten %v later", skew, now.Sub(seen))
				}
			}
		}
	}
}

func TestMemoryOfKnocksIsBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	m := newKnockMemory()
	for i := range uint64(maxKnocks) {
		if !m.first(wire.Knock{Millis: i}, now) {
			t.Fatalf("knock %d is refused", i)
		}
	}
	if m.first(wire.Knock{Millis: maxKnocks}, now) {
		t.Error("one more is accepted: it would not be remembered")
	}
	later := now.Add(2 * wire.KnockTolerance)
	if !m.first(wire.Knock{Millis: maxKnocks}, later) || m.first(wire.Knock{Millis: 1}, later) {
		t.Error("after a generation: a new knock is refused, or an old one accepted")
	}
	if m.first(wire.Knock{Millis: maxKnocks}, later.Add(2*wire.KnockTolerance)) {
		t.Error("a generation later the knock is forgotten")
	}
	if got := len(m.current) + len(m.previous); got > maxKnocks {
		t.Errorf("%d knocks are remembered", got)
	}
}

// Threats N08, N13: who knocks rightly and then cannot prove to be a node.
func TestKnockAloneAdmitsNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b := c.node("b").start()
		foreign, foreignNet := newCluster(t, "demo"), c.net
		foreign.net = foreignNet
		x := foreign.node("x")
		late := c.node("late")
		request, at := nodeRequest(late)
		time.Sleep(time.Hour)
		request.Life = 5 * time.Minute
		late.issued = must(c.root.Node(request, at.Add(30*time.Minute)))(t)
		_, clientKey, _ := ed25519.GenerateKey(nil)
		client := must(c.root.Client(pki.ClientRequest{Name: "client", SigningKey: clientKey.Public().(ed25519.PublicKey)}, time.Now()))(t)
		_, thief, _ := ed25519.GenerateKey(nil)
		own := &tls.Certificate{Certificate: c.node("own").issued.Chain, PrivateKey: thief}
		selfSigned := selfSignedNode(t, "demo", "b")

		junk := func(says []byte) func(net.Conn) refusal {
			return func(conn net.Conn) refusal {
				conn.Write(says)
				return hearOut(conn)
			}
		}
		shake := func(config *tls.Config, cert *tls.Certificate) func(net.Conn) refusal {
			return func(conn net.Conn) refusal {
				config.InsecureSkipVerify = true
				if cert != nil {
					config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
				}
				start := time.Now()
				secure := tls.Client(conn, config)
				// Under TLS 1.3 the dialler is done before it is judged.
				if err := secure.Handshake(); err != nil {
					return refusal{err: err, after: time.Since(start)}
				}
				secure.Write([]byte("what a stranger says"))
				return hearOut(secure)
			}
		}
		modern := func() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS13} }
		for claim, test := range map[string]struct {
			attempt func(net.Conn) refusal
			after   time.Duration
			shakes  bool
		}{
			"silence":                          {junk(nil), handshakeTimeout, false},
			"half a hello":                     {junk(clientHello(t)[:100]), handshakeTimeout, false},
			"a hello and silence":              {junk(clientHello(t)), handshakeTimeout, false},
			"junk":                             {junk(bytes.Repeat([]byte{0xff}, 1000)), 0, false},
			"a second knock":                   {junk(c.validKnock()), 0, false},
			"a plaintext push/pull":            {junk(append([]byte{6}, make([]byte, 100)...)), 0, false},
			"TLS 1.2":                          {shake(&tls.Config{MaxVersion: tls.VersionTLS12}, nil), 0, true},
			"no certificate":                   {shake(modern(), nil), 0, true},
			"a client's certificate":           {shake(modern(), &tls.Certificate{Certificate: client.Chain, PrivateKey: clientKey}), 0, true},
			"a foreign node's certificate":     {shake(modern(), must(x.certificate())(t)), 0, true},
			"an expired certificate":           {shake(modern(), must(late.certificate())(t)), 0, true},
			"a certificate without its key":    {shake(modern(), own), 0, true},
			"a certificate signed by itself":   {shake(modern(), selfSigned), 0, true},
			"the root's certificate as a leaf": {shake(modern(), &tls.Certificate{Certificate: [][]byte{rootDER(t, c)}, PrivateKey: thief}), 0, true},
		} {
			before := b.Counters()
			conn := dialFrom(t, c, "198.51.100.66", b)
			conn.Write(c.validKnock())
			start := time.Now()
			got := test.attempt(conn)
			conn.Close()
			if took := time.Since(start); isTimeout(got.err) || took != test.after {
				t.Errorf("%s: %v after %v, want the end after %v", claim, got.err, took, test.after)
			}
			if test.shakes && (got.err == nil || len(got.bytes) != 0) {
				t.Errorf("%s: after the handshake it got %x, %v; want only an error", claim, got.bytes, got.err)
			}
			synctest.Wait()
			b.counts(claim, before, map[string]uint64{"strangers_dropped": 1})
			b.nothingHappened(claim)
		}
		if got := b.roster.All(); len(got) != 1 {
			t.Errorf("b now knows %d nodes", len(got))
		}
	})
}

// selfSignedNode is a certificate that says the right things and is nobody's.
func selfSignedNode(t *testing.T, name, node pki.Name) *tls.Certificate {
	t.Helper()
	other := newCluster(t, name)
	_, key, _ := ed25519.GenerateKey(nil)
	issued := must(other.root.Node(pki.NodeRequest{Name: node, SigningKey: key.Public().(ed25519.PublicKey), AgreementKey: [32]byte{9}}, time.Now()))(t)
	template := must(x509.ParseCertificate(issued.Chain[0]))(t)
	return &tls.Certificate{Certificate: [][]byte{must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)}, PrivateKey: key}
}

func rootDER(t *testing.T, c *cluster) []byte {
	t.Helper()
	return must(pki.ParseCertificates(c.bundle))(t)[0].Raw
}

// clientHello is the first flight of a TLS 1.3 handshake.
func clientHello(t *testing.T) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer there.Close()
	go tls.Client(here, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}).Handshake()
	buffer := make([]byte, 4096)
	n, err := there.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return buffer[:n]
}

// Threat N08: one source cannot use up what there is for all.
func TestOneSourceGetsItsShareOfConnections(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b := c.pair()
		var held []net.Conn
		for range strangersPerSource {
			held = append(held, dialFrom(t, c, "198.51.100.66", b))
		}
		synctest.Wait()
		one := dialFrom(t, c, "198.51.100.66", b)
		if got := hearOut(one); got.after != 0 || len(got.bytes) != 0 {
			t.Errorf("one more was closed after %v", got.after)
		}
		b.counts("one too many", nil, map[string]uint64{"strangers_dropped": 1})
		// Somebody else is served meanwhile.
		if _, err := a.Sync(t.Context(), b.to()); err != nil {
			t.Errorf("a member from elsewhere: %v", err)
		}
		time.Sleep(knockTimeout)
		synctest.Wait()
		before := b.Counters()
		for range strangersPerSource {
			held = append(held, dialFrom(t, c, "198.51.100.66", b))
		}
		synctest.Wait()
		b.counts("the share is there again", before, nil)
		for _, conn := range append(held, one) {
			conn.Close()
		}
	})
}

func TestStrangersTogetherAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b := c.node("b").start()
		var held []net.Conn
		for i := range maxStrangers {
			held = append(held, dialFrom(t, c, fmt.Sprintf("198.51.%d.1", i), b))
		}
		synctest.Wait()
		b.counts("as many as there may be", nil, nil)
		one := dialFrom(t, c, "192.0.2.1", b)
		if got := hearOut(one); got.after != 0 {
			t.Errorf("one more was closed after %v, want at once", got.after)
		}
		for _, conn := range append(held, one) {
			conn.Close()
		}
		synctest.Wait()
		if b.strangers.inUse != 0 || len(b.strangers.by) != 0 {
			t.Errorf("%d are counted when all are gone", b.strangers.inUse)
		}
	})
}

func TestSourcesAreAddressesOrSixtyFours(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	for claim, test := range map[string]struct {
		a, b net.Addr
		same bool
	}{
		"two ports":                     {tcp("192.0.2.1:1"), tcp("192.0.2.1:2"), true},
		"two IPv4 addresses":            {tcp("192.0.2.1:1"), tcp("192.0.2.2:1"), false},
		"an IPv4 address in two shapes": {tcp("192.0.2.1:1"), tcp("[::ffff:192.0.2.1]:1"), true},
		"one IPv6 network":              {tcp("[2001:db8::1]:1"), tcp("[2001:db8::ffff:1]:1"), true},
		"two IPv6 networks":             {tcp("[2001:db8::1]:1"), tcp("[2001:db8:0:1::1]:1"), false},
		"an IPv6 zone":                  {tcp("[fe80::1%one]:1"), tcp("[fe80::1]:1"), true},
		"both families":                 {tcp("192.0.2.1:1"), tcp("[2001:db8::1]:1"), false},
		"no addresses":                  {&net.UnixAddr{Name: "x"}, &net.UnixAddr{Name: "y"}, true},
	} {
		if got := sourceOf(test.a) == sourceOf(test.b); got != test.same {
			t.Errorf("%s: one source is %v, want %v", claim, got, test.same)
		}
	}
}

func TestQuotaCountsByHolderAndInAll(t *testing.T) {
	q := newQuota[string](3, 2)
	steps := []struct {
		take bool
		who  string
		want bool
	}{
		{true, "x", true}, {true, "x", true}, {true, "x", false},
		{true, "y", true}, {true, "z", false},
		{false, "x", true}, {true, "z", true}, {true, "x", false},
		{false, "y", true}, {false, "z", true}, {true, "x", true}, {true, "x", false},
	}
	for i, step := range steps {
		if !step.take {
			q.giveBack(step.who)
		} else if got := q.take(step.who); got != step.want {
			t.Fatalf("step %d: %s may have one more: %v, want %v", i, step.who, got, step.want)
		}
	}
	q.giveBack("x")
	q.giveBack("x")
	if q.inUse != 0 || len(q.by) != 0 {
		t.Errorf("%d in use by %v when all is given back", q.inUse, q.by)
	}
}

// tappedNetwork keeps what is written to the streams it dials.
type tappedNetwork struct {
	Network
	written bytes.Buffer
}

func (n *tappedNetwork) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	conn, err := n.Network.Dial(ctx, addr)
	return &tappedConn{Conn: conn, written: &n.written}, err
}

func (n *tappedNetwork) first(size int) []byte { return n.written.Bytes()[:size] }

type tappedConn struct {
	net.Conn
	written *bytes.Buffer
}

func (c *tappedConn) Write(b []byte) (int, error) {
	c.written.Write(b)
	return c.Conn.Write(b)
}

var _ Network = (*memnet.Host)(nil)
