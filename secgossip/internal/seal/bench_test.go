package seal

import (
	"crypto/cipher"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

func stranger() []byte {
	junk := make([]byte, wire.MaxDatagram)
	rand.NewChaCha8([32]byte{9}).Read(junk)
	return junk
}

func TestDropsDoNotAllocate(t *testing.T) {
	c := newConversation(t)
	replayed := c.seal("x")
	wantDrop(t, "first", c.inbox, replayed, Accepted)
	forged := c.seal("x")
	forged[len(forged)-1] ^= 1
	unknown := newConversation(t, func(c *conversation) { c.alice.Boot[0]++ }).seal("x")
	for _, test := range []struct {
		want     Drop
		datagram []byte
	}{
		{DropSize, make([]byte, 1300)},
		{DropDoor, stranger()},
		{DropSender, unknown},
		{DropReplay, replayed},
		{DropSeal, forged},
	} {
		wantDrop(t, "warm", c.inbox, test.datagram, test.want)
		if got := testing.AllocsPerRun(100, func() { c.inbox.Open(test.datagram, nil) }); got != 0 {
			t.Errorf("%v: %v allocations, want 0", test.want, got)
		}
	}
}

func TestSealingAndOpeningAllocateOnlyThePayload(t *testing.T) {
	c := newConversation(t)
	payload := make([]byte, wire.MaxPayload)
	datagram := make([]byte, 0, wire.MaxDatagram)
	var drop Drop
	for _, test := range []struct {
		name string
		dst  []byte
		most float64
	}{
		{"into the caller's room", make([]byte, 0, wire.MaxPayload), 0},
		{"into memory of its own", nil, 1},
	} {
		got := testing.AllocsPerRun(100, func() {
			sealed, err := c.sender.Seal(datagram, wire.PacketGossip, payload)
			if err != nil {
				t.Fatal(err)
			}
			_, drop = c.inbox.Open(sealed, test.dst)
		})
		if got > test.most || drop != Accepted {
			t.Errorf("%s: %v allocations (%v), want at most %v", test.name, got, drop, test.most)
		}
	}
}

// What follows are ratios, each measured in one run: the ones who are compared take
// turns, and of each the median turn counts. So a busy machine slows them alike.
// They run on one processor, or the packets that memberlist is handed would cost
// what waking another one costs.

// A racer does one thing so many times.
type racer func(times int)

// race lets the racers take turns until the benchmark ends, and returns what one
// time costs each, in nanoseconds. before is not measured.
func race(b *testing.B, times int, before func(), racers ...racer) []float64 {
	b.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	turns := make([][]time.Duration, len(racers))
	for first := 0; b.Loop(); first++ { // whoever is first finds the cache cold
		before()
		for i := range racers {
			i = (first + i) % len(racers)
			start := time.Now()
			racers[i](times)
			turns[i] = append(turns[i], time.Since(start))
		}
	}
	costs := make([]float64, len(racers))
	for i, durations := range turns {
		slices.Sort(durations)
		costs[i] = float64(durations[len(durations)/2].Nanoseconds()) / float64(times)
	}
	b.ReportMetric(0, "ns/op") // of all together: it says nothing
	return costs
}

// Threat N05. memberlist gets the costliest junk there is for it: of its encryption
// version, so that it tries its key. Its logger is one that it need not format for.
func BenchmarkRejectStrangerAgainstMemberlist(b *testing.B) {
	c := newConversation(b)
	junk := stranger()
	junk[0] = 1
	packet := &memberlist.Packet{Buf: junk, From: new(net.UDPAddr)}
	theirs := newDeadEnd(b, make([]byte, 32))
	nobody := make(chan *memberlist.Packet)
	defer close(nobody)
	go func() { // takes packets as memberlist does, and does nothing with them
		stop := make(chan struct{})
		for {
			select {
			case packet := <-nobody:
				if packet == nil {
					return
				}
			case <-stop:
				return
			}
		}
	}()
	feed := func(to chan *memberlist.Packet) racer {
		return func(times int) {
			for range times {
				to <- packet // taken when the one before is done with
			}
		}
	}
	costs := race(b, 500, func() {}, func(times int) {
		for range times {
			c.inbox.Open(junk, nil)
		}
	}, feed(theirs.packets), feed(nobody))
	ours, memberlists := costs[0], costs[1]-costs[2]
	b.ReportMetric(ours, "ns/reject")
	b.ReportMetric(memberlists, "ns/memberlist")
	b.ReportMetric(costs[2], "ns/handover")
	b.ReportMetric(memberlists/ours, "x-vs-memberlist")
}

// batch is how many datagrams are sealed or opened in one turn: few enough to stay
// in the cache, where a real one has just been put, and enough for a turn to be more
// than its beginning.
const batch = 128

// buffers are room for a batch, made once: what is measured leaves no garbage.
func buffers() (all [batch][]byte) {
	for i := range all {
		all[i] = make([]byte, 0, wire.MaxDatagram)
	}
	return all
}

func BenchmarkSealAgainstOthers(b *testing.B) {
	payload := make([]byte, wire.MaxPayload)
	dst := make([]byte, 0, wire.MaxDatagram)
	ours := func(b *testing.B) racer {
		c := newConversation(b)
		return func(times int) {
			for range times {
				if _, err := c.sender.Seal(dst, wire.PacketGossip, payload); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	nothing := func() {}
	b.Run("bare", func(b *testing.B) { // as many bytes, from one place to another, and one block
		plaintext := make([]byte, wire.LengthSize+wire.MaxPayload)
		gcm, block, nonce, door := bareGCM(b), mustAES(make([]byte, 32)), make([]byte, 12), make([]byte, 16)
		costs := race(b, batch, nothing, ours(b), func(times int) {
			for range times {
				block.Encrypt(door, door)
				gcm.Seal(dst, nonce, plaintext, door)
			}
		})
		b.ReportMetric(costs[0], "ns/seal")
		b.ReportMetric(costs[0]/costs[1], "x-vs-bare")
	})
	b.Run("memberlist", func(b *testing.B) { // the same payload
		costs := race(b, batch, nothing, ours(b), sendEncrypted(b, payload), sendPlain(b, payload))
		b.ReportMetric(costs[0], "ns/seal")
		b.ReportMetric(costs[1]-costs[2], "ns/memberlist")
		b.ReportMetric((costs[1]-costs[2])/costs[0], "x-vs-memberlist")
	})
}

func BenchmarkOpenAgainstOthers(b *testing.B) {
	payload := make([]byte, wire.MaxPayload)
	dst := make([]byte, 0, wire.MaxDatagram) // ours copies a payload there once it is known to be genuine
	ours := func(b *testing.B) (sealAll func(), open racer) {
		c, datagrams := newConversation(b), buffers()
		return func() { // each opens once
				for i := range datagrams {
					datagrams[i], _ = c.sender.Seal(datagrams[i][:0], wire.PacketGossip, payload)
				}
			}, func(times int) {
				for i := range times {
					if _, drop := c.inbox.Open(datagrams[i], dst); drop != Accepted {
						b.Fatal(drop)
					}
				}
			}
	}
	b.Run("bare", func(b *testing.B) {
		sealAll, open := ours(b)
		gcm, block, nonce, door := bareGCM(b), mustAES(make([]byte, 32)), make([]byte, 12), make([]byte, 16)
		datagrams, plaintext := buffers(), make([]byte, wire.LengthSize+wire.MaxPayload)
		before := func() {
			for i := range datagrams {
				datagrams[i] = gcm.Seal(datagrams[i][:wire.DoorSize], nonce, plaintext, door)
			}
			sealAll()
		}
		costs := race(b, batch, before, open, func(times int) {
			for i := range times {
				block.Decrypt(datagrams[i][:wire.DoorSize], datagrams[i][:wire.DoorSize])
				if _, err := gcm.Open(dst, nonce, datagrams[i][wire.DoorSize:], door); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.ReportMetric(costs[0], "ns/open")
		b.ReportMetric(costs[0]/costs[1], "x-vs-bare")
	})
	b.Run("memberlist", func(b *testing.B) { // its sealing, which both of ours are held to
		sealAll, open := ours(b)
		costs := race(b, batch, sealAll, open, sendEncrypted(b, payload), sendPlain(b, payload))
		b.ReportMetric(costs[0], "ns/open")
		b.ReportMetric(costs[1]-costs[2], "ns/memberlist")
		b.ReportMetric((costs[1]-costs[2])/costs[0], "x-vs-memberlist")
	})
}

// sendEncrypted has memberlist seal and send. What it does besides is what it does
// with its encryption off, and is taken away.
func sendEncrypted(b *testing.B, payload []byte) racer {
	return newDeadEnd(b, make([]byte, 32)).send(b, payload)
}

func sendPlain(b *testing.B, payload []byte) racer { return newDeadEnd(b, nil).send(b, payload) }

// Replays cost a look into the window.
func BenchmarkRejectReplay(b *testing.B) {
	c := newConversation(b)
	datagram := c.seal(string(make([]byte, wire.MaxPayload)))
	c.inbox.Open(datagram, nil)
	b.ReportAllocs()
	for b.Loop() {
		c.inbox.Open(datagram, nil)
	}
}

func bareGCM(b *testing.B) cipher.AEAD {
	gcm, err := cipher.NewGCM(mustAES(make([]byte, 32)))
	if err != nil {
		b.Fatal(err)
	}
	return gcm
}

// A deadEnd is memberlist between two ends of ours: packets are handed in, and
// what it sends is gone. It probes and gossips nothing of its own accord.
type deadEnd struct {
	list    *memberlist.Memberlist
	packets chan *memberlist.Packet
}

// newDeadEnd makes one with one key, or without encryption for none.
func newDeadEnd(b *testing.B, key []byte) *deadEnd {
	b.Helper()
	d := &deadEnd{packets: make(chan *memberlist.Packet)}
	config := memberlist.DefaultLANConfig()
	config.Name = "here"
	config.Transport = d
	config.SecretKey = key
	config.EnableCompression = false
	config.ProbeInterval, config.GossipInterval, config.PushPullInterval = 0, 0, 0
	config.Logger = log.New(io.Discard, "", 0)
	list, err := memberlist.Create(config)
	if err != nil {
		b.Fatal(err)
	}
	d.list = list
	b.Cleanup(func() {
		if err := list.Shutdown(); err != nil {
			b.Error(err)
		}
	})
	return d
}

// send has memberlist send a payload to whom it does not know.
func (d *deadEnd) send(b *testing.B, payload []byte) racer {
	to := memberlist.Address{Addr: "192.0.2.1:7946", Name: "web-1"}
	return func(times int) {
		for range times {
			if err := d.list.SendToAddress(to, payload); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func (*deadEnd) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IPv4(127, 0, 0, 1), 7946, nil
}
func (*deadEnd) WriteTo([]byte, string) (time.Time, error)           { return time.Time{}, nil }
func (d *deadEnd) PacketCh() <-chan *memberlist.Packet               { return d.packets }
func (*deadEnd) DialTimeout(string, time.Duration) (net.Conn, error) { return nil, io.EOF }
func (*deadEnd) StreamCh() <-chan net.Conn                           { return nil }
func (*deadEnd) Shutdown() error                                     { return nil }
