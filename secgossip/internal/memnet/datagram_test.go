package memnet

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// pair opens a socket on each of two hosts and collects at the second.
func pair(t *testing.T, n *Network) (from PacketConn, arrived *inbox) {
	t.Helper()
	from = mustListenPacket(t, n.Host(addrA))
	return from, mustCollect(mustListenPacket(t, n.Host(addrB)))
}

func TestLossLosesItsShare(t *testing.T) {
	for _, test := range []struct {
		loss     float64
		min, max int // of 200
	}{{0, 200, 200}, {1, 0, 0}, {0.25, 120, 180}} {
		story(t, func(t *testing.T, n *Network) {
			from, arrived := pair(t, n)
			n.Loss(test.loss)
			got := 0
			for range 200 {
				mustSend(t, from, addrB, "x")
				got += len(arrived.take())
			}
			if got < test.min || got > test.max {
				t.Errorf("loss %v: %d of 200 arrived, want %d to %d", test.loss, got, test.min, test.max)
			}
		})
	}
}

func TestDuplicateArrivesTwice(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		from, arrived := pair(t, n)
		n.Duplicate(1)
		mustSend(t, from, addrB, "x")
		wantTexts(t, "duplicated", arrived.take(), "192.0.2.1: x", "192.0.2.1: x")
	})
}

func TestEqualDelaysKeepTheOrder(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		from, arrived := pair(t, n)
		n.Delay(time.Second, time.Second)
		var want []string
		for i := range 100 {
			mustSend(t, from, addrB, fmt.Sprint(i))
			want = append(want, fmt.Sprintf("192.0.2.1: %d", i))
		}
		time.Sleep(time.Second - 1)
		wantTexts(t, "just before", arrived.take())
		time.Sleep(time.Nanosecond)
		wantTexts(t, "after the delay", arrived.take(), want...)
	})
}

func TestUnequalDelaysReorder(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		from, arrived := pair(t, n)
		n.Delay(time.Second, 2*time.Second)
		var want []string
		for i := range 100 {
			mustSend(t, from, addrB, fmt.Sprintf("%03d", i))
			want = append(want, fmt.Sprintf("192.0.2.1: %03d", i))
		}
		time.Sleep(time.Second - 1)
		wantTexts(t, "before the shortest delay", arrived.take())
		time.Sleep(time.Second + 1)
		got := arrived.take()
		if slices.Equal(got, want) {
			t.Errorf("100 datagrams arrived in the order they were sent")
		}
		slices.Sort(got)
		wantTexts(t, "after the longest delay", got, want...)
	})
}

// A later datagram with a shorter delay must not wait for an earlier one.
func TestShorterDelayIsNotKeptBackByALongerOne(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		from, arrived := pair(t, n)
		n.Delay(time.Hour, time.Hour)
		mustSend(t, from, addrB, "slow")
		n.Delay(time.Second, time.Second)
		mustSend(t, from, addrB, "fast")
		time.Sleep(time.Second)
		wantTexts(t, "after a second", arrived.take(), "192.0.2.1: fast")
		time.Sleep(time.Hour)
		wantTexts(t, "after an hour", arrived.take(), "192.0.2.1: slow")
	})
}

func TestTapSeesWhatIsLostAndNotWhatIsInjected(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		from, arrived := pair(t, n)
		var seen []Datagram
		n.Tap(func(d Datagram) { seen = append(seen, d) })
		n.Loss(1)
		n.Block(addrA, addrB)
		time.Sleep(time.Minute)
		mustSend(t, from, addrB, "lost")
		n.Inject(Datagram{From: at(addrC), To: at(addrB), Data: []byte("forged")})
		wantTexts(t, "arrived", arrived.take(), "2001:db8::3: forged")
		if len(seen) != 1 {
			t.Fatalf("tap saw %d datagrams, want 1", len(seen))
		}
		d := seen[0]
		if d.From != at(addrA) || d.To != at(addrB) || string(d.Data) != "lost" || !d.At.Equal(time.Now()) {
			t.Errorf("tap saw %v > %v %q at %v, want %v > %v %q at %v", d.From, d.To, d.Data, d.At, at(addrA), at(addrB), "lost", time.Now())
		}
	})
}

// A recorder that changes what it recorded changes nothing that travels, and it
// can answer with copies at once.
func TestTapMayChangeItsCopyAndInject(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		from, arrived := pair(t, n)
		n.Tap(func(d Datagram) {
			d.Data[0] = 'X'
			n.Inject(d)
			d.Data[0] = 'Y'
		})
		mustSend(t, from, addrB, "abc")
		wantTexts(t, "arrived", arrived.take(), "192.0.2.1: Xbc", "192.0.2.1: abc")
	})
}

func TestInjectPassesEveryRuleAndReportsArrival(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		_, arrived := pair(t, n)
		n.Loss(1)
		n.Delay(time.Hour, time.Hour)
		n.Partition([]netip.Addr{addrB})
		n.Block(addrC, addrB)
		n.Hold()
		data := []byte("forged")
		if !n.Inject(Datagram{From: at(addrC), To: at(addrB), Data: data}) {
			t.Errorf("Inject to an open socket: got false, want true")
		}
		copy(data, "xxxxxx")
		wantTexts(t, "arrived", arrived.take(), "2001:db8::3: forged")
		if n.Inject(Datagram{From: at(addrB), To: at(addrC)}) {
			t.Errorf("Inject to no host: got true, want false")
		}
	})
}

func TestHeldDatagramsArriveOnReleaseInOrder(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		from, arrived := pair(t, n)
		n.Delay(time.Second, time.Second)
		mustSend(t, from, addrB, "sent before")
		n.Hold()
		mustSend(t, from, addrB, "sent after")
		time.Sleep(time.Hour)
		wantTexts(t, "while held", arrived.take())
		n.Release()
		wantTexts(t, "released", arrived.take(), "192.0.2.1: sent before", "192.0.2.1: sent after")
		n.Hold()
		n.Release()
		wantTexts(t, "nothing held", arrived.take())
		mustSend(t, from, addrB, "later")
		time.Sleep(time.Second)
		wantTexts(t, "after release", arrived.take(), "192.0.2.1: later")
	})
}

func TestTakenDatagramsArriveInAnyOrderOrNever(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		from, arrived := pair(t, n)
		n.Hold()
		for _, text := range []string{"one", "two", "three"} {
			mustSend(t, from, addrB, text)
		}
		taken := n.Take()
		if len(taken) != 3 {
			t.Fatalf("took %d datagrams, want 3", len(taken))
		}
		n.Inject(taken[2])
		n.Inject(taken[0])
		n.Release()
		wantTexts(t, "arrived", arrived.take(), "192.0.2.1: three", "192.0.2.1: one")
	})
}

func TestReleasedDatagramsStillObeyRules(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		from, arrived := pair(t, n)
		n.Hold()
		mustSend(t, from, addrB, "held")
		n.Block(addrA, addrB)
		n.Release()
		wantTexts(t, "arrived", arrived.take())
	})
}

func TestConcurrentTapsNeedNoLock(t *testing.T) {
	story(t, func(t *testing.T, n *Network) {
		seen := 0
		n.Tap(func(Datagram) { seen++ })
		from, _ := pair(t, n)
		for range 8 {
			go func() {
				for range 100 {
					from.WriteToUDPAddrPort([]byte("x"), at(addrB))
				}
			}()
		}
		synctest.Wait()
		if seen != 800 {
			t.Errorf("tap saw %d datagrams, want 800", seen)
		}
	})
}
