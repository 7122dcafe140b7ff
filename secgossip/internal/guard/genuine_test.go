package guard

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/pki"
)

// What memberlist itself writes is taken from memberlist itself: three of them
// live two minutes over a recorder, and one of those falls silent and comes back.

// sent is a packet and who sent it.
type sent struct {
	from string
	data []byte
}

// recorder connects memberlists and keeps every packet.
type recorder struct {
	mu      sync.Mutex
	ends    map[string]*end // by name and by address
	silent  map[string]bool
	packets []sent
	screen  func(net.Conn) net.Conn // what memberlist gets of both ends of a stream, if set
}

func (r *recorder) put(p sent, to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.packets = append(r.packets, p)
	if e := r.ends[to]; e != nil && !r.silent[to] && !r.silent[p.from] {
		select {
		case e.packets <- &memberlist.Packet{Buf: bytes.Clone(p.data), From: &net.UDPAddr{IP: r.ends[p.from].ip, Port: VirtualPort}, Timestamp: time.Now()}:
		default:
		}
	}
}

func (r *recorder) hush(name string, silent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent[name] = silent
}

func (r *recorder) connect(from, to string) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.ends[to]
	if e == nil || r.silent[to] || r.silent[from] {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: io.ErrClosedPipe}
	}
	here, there := net.Pipe()
	if r.screen != nil {
		here, there = r.screen(here), r.screen(there)
	}
	select {
	case e.streams <- there:
		return here, nil
	default:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: io.ErrShortBuffer}
	}
}

func (r *recorder) add(name string) *end {
	ip := net.IP(VirtualAddr(pki.ClusterID{}, pki.Name(name)).Addr().AsSlice())
	e := &end{recorder: r, name: name, ip: ip, packets: make(chan *memberlist.Packet, 256), streams: make(chan net.Conn, 16)}
	r.ends[name], r.ends[fmt.Sprintf("[%s]:%d", ip, VirtualPort)] = e, e
	return e
}

// end is a memberlist.NodeAwareTransport.
type end struct {
	*recorder
	name    string
	ip      net.IP
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func (e *end) FinalAdvertiseAddr(string, int) (net.IP, int, error) { return e.ip, VirtualPort, nil }
func (e *end) PacketCh() <-chan *memberlist.Packet                 { return e.packets }
func (e *end) StreamCh() <-chan net.Conn                           { return e.streams }
func (e *end) Shutdown() error                                     { return nil }

func (e *end) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	e.put(sent{from: e.name, data: bytes.Clone(b)}, a.Name)
	return time.Now(), nil
}

func (e *end) WriteTo(b []byte, addr string) (time.Time, error) {
	e.put(sent{from: e.name, data: bytes.Clone(b)}, addr)
	return time.Now(), nil
}

func (e *end) DialAddressTimeout(a memberlist.Address, _ time.Duration) (net.Conn, error) {
	if a.Name == "" {
		return e.connect(e.name, a.Addr)
	}
	return e.connect(e.name, a.Name)
}

func (e *end) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return e.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// tagger gives a node its meta data.
type tagger struct{ meta []byte }

func (d *tagger) NodeMeta(int) []byte           { return d.meta }
func (*tagger) NotifyMsg([]byte)                {}
func (*tagger) GetBroadcasts(int, int) [][]byte { return nil }
func (*tagger) LocalState(bool) []byte          { return nil }
func (*tagger) MergeRemoteState([]byte, bool)   {}

// genuinePackets returns what three memberlists say to each other in two minutes
// of virtual time in which everything happens that a cluster sees.
func genuinePackets(t *testing.T) []sent {
	t.Helper()
	r := newRecorder()
	r.live(t)
	return r.packets
}

func newRecorder() *recorder {
	return &recorder{ends: make(map[string]*end), silent: make(map[string]bool)}
}

// live lets the three live their two minutes.
func (r *recorder) live(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		lists := make(map[string]*memberlist.Memberlist)
		tags := &tagger{}
		for _, name := range []string{"a", "b", "d"} {
			c := memberlist.DefaultLANConfig()
			c.Name, c.Transport, c.Logger = name, r.add(name), log.New(io.Discard, "", 0)
			c.EnableCompression = false
			if name == "a" {
				c.Delegate = tags
			}
			list, err := memberlist.Create(c)
			if err != nil {
				t.Fatal(err)
			}
			lists[name] = list
			if name == "a" {
				continue
			}
			if _, err := list.Join([]string{fmt.Sprintf("a/[%s]:%d", r.ends["a"].ip, VirtualPort)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		tags.meta = []byte("some tags")
		lists["a"].UpdateNode(time.Second)
		r.hush("d", true)
		time.Sleep(time.Minute)
		r.hush("d", false)
		lists["d"].Join([]string{fmt.Sprintf("a/[%s]:%d", r.ends["a"].ip, VirtualPort)})
		time.Sleep(30 * time.Second)
		lists["b"].Leave(5 * time.Second)
		time.Sleep(10 * time.Second)
		for _, list := range lists {
			list.Shutdown()
		}
		time.Sleep(time.Minute) // for what memberlist does not wait for itself
	})
}

// kinds takes a packet apart and returns the types of its messages, with those
// of its wrappings.
func kinds(t *testing.T, packet []byte) []byte {
	t.Helper()
	var found []byte
	if packet[0] == msgChecksum {
		found, packet = append(found, msgChecksum), packet[checksumSize:]
	}
	if packet[0] != msgCompound {
		return append(found, packet[0])
	}
	found = append(found, msgCompound)
	parts, ok := splitCompound(packet[1:])
	if !ok {
		t.Fatalf("memberlist wrote the compound %x", packet)
	}
	for _, part := range parts {
		found = append(found, part[0])
	}
	return found
}

func TestEverythingMemberlistWritesIsAccepted(t *testing.T) {
	seen := make(map[byte]int)
	var left int
	for _, p := range genuinePackets(t) {
		for _, kind := range kinds(t, p.data) {
			seen[kind]++
		}
		about, err := CheckPacket(p.data, p.from)
		if err != nil {
			t.Fatalf("CheckPacket of a packet %s wrote: %v\n%x", p.from, err, p.data)
		}
		if _, err := CheckPacket(p.data, ""); err != nil {
			t.Fatalf("CheckPacket on the way out: %v\n%x", err, p.data)
		}
		for _, name := range about.Left {
			left++
			if name != "b" {
				t.Errorf("%q is said to have left; it was b", name)
			}
		}
	}
	for _, kind := range []byte{
		msgPing, msgIndirectPing, msgAck, msgSuspect, msgAlive, msgDead, msgCompound, msgNack, msgChecksum,
	} {
		if seen[kind] == 0 {
			t.Errorf("memberlist wrote no message of type %d: nothing is shown about it", kind)
		}
	}
	if extra := len(seen); extra != 9 {
		t.Errorf("memberlist wrote %d kinds: %v", extra, slices.Sorted(maps.Keys(seen)))
	}
	if left == 0 {
		t.Error("nobody heard b leave")
	}
}

// oneOfEach picks a genuine packet for every kind there is.
func oneOfEach(t *testing.T) map[byte]sent {
	t.Helper()
	picked := make(map[byte]sent)
	for _, p := range genuinePackets(t) {
		for _, kind := range kinds(t, p.data) {
			if _, ok := picked[kind]; !ok {
				picked[kind] = p
			}
		}
	}
	return picked
}

func TestEveryTruncationOfAPacketIsRefused(t *testing.T) {
	for kind, p := range oneOfEach(t) {
		for n := range p.data {
			if _, err := CheckPacket(p.data[:n], p.from); err == nil {
				t.Errorf("type %d: %d of %d bytes were accepted", kind, n, len(p.data))
			}
		}
	}
}

func TestOneByteMoreIsRefused(t *testing.T) {
	for kind, p := range oneOfEach(t) {
		for _, extra := range []byte{0, 0x80, 0xc0, 0xff} {
			if _, err := CheckPacket(append(bytes.Clone(p.data), extra), p.from); err == nil {
				t.Errorf("type %d: accepted with %#x after its end", kind, extra)
			}
			// With a checksum that is right.
			if p.data[0] != msgChecksum {
				continue
			}
			if _, err := CheckPacket(checksummed(append(bytes.Clone(p.data[checksumSize:]), extra)), p.from); err == nil {
				t.Errorf("type %d: accepted with %#x after its end and under the checksum", kind, extra)
			}
		}
	}
}

func checksummed(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{msgChecksum}, crc32.ChecksumIEEE(body)), body...)
}

func compound(parts ...[]byte) []byte {
	out := []byte{msgCompound, byte(len(parts))}
	for _, part := range parts {
		out = binary.BigEndian.AppendUint16(out, uint16(len(part)))
	}
	return append(out, bytes.Join(parts, nil)...)
}
