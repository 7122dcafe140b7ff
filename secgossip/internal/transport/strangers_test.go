package transport

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
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
		elsewhere := c.node("d")
		now := time.Now()
		hello := clientHello(t)
		for claim, test := range map[string]struct {
			says  []byte
			after time.Duration
		}{
			"nothing":                          {nil, knockTimeout},
			"one byte":                         {[]byte{0}, knockTimeout},
			"half a knock":                     {b.validKnock()[:16], knockTimeout},
			"all but the last byte of a knock": {b.validKnock()[:wire.KnockSize-1], knockTimeout},
			"31 zeros":                         {make([]byte, 31), knockTimeout},
			"32 zeros":                         {make([]byte, 32), 0},
			"much junk":                        {bytes.Repeat([]byte{0xff}, 60_000), 0},
			"TLS at once":                      {hello, 0},
			"HTTP":                             {[]byte("GET / HTTP/1.1\r\nHost: 203.0.113.1\r\n\r\n"), 0},
			"a memberlist push/pull":           {append([]byte{6}, make([]byte, 100)...), 0},
			"an old knock":                     {c.knockFor(b, now.Add(-wire.KnockTolerance-time.Second)), 0},
			"a knock of the future":            {c.knockFor(b, now.Add(wire.KnockTolerance+time.Hour)), 0},
			"a knock of 1970":                  {c.knockFor(b, time.Unix(0, 0)), 0},
			"a knock of a foreign cluster":     {foreign.knockFor(b, now), 0},
			"the same key, another cluster":    {sameKnock.knockFor(b, now), 0},
			"a knock for another node":         {append(c.knockFor(elsewhere, now), hello...), 0},
			"a wrong knock and then TLS":       {append(foreign.knockFor(b, now), hello...), 0},
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
			want := map[string]uint64{"strangers_dropped": 1}
			switch claim {
			case "an old knock", "a knock of the future", "a knock of 1970":
				want["knocks_untimely"] = 1
			}
			b.counts(claim, before, want)
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
			for _, one := range b.validKnock() {
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
		synctest.Wait() // a summary's minute ends in the same instant
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
			"a second knock":                   {junk(b.validKnock()), 0, false},
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
			conn.Write(b.validKnock())
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

var _ Network = (*memnet.Host)(nil)
