package transport

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/secgossip/internal/memnet"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// Threat N05: strangers do not decide how much is logged.
func TestStrangersMoveOneLineAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b := c.node("b").start()
		for minute := 1; minute <= 3; minute++ {
			for i := range 10_000 {
				c.net.Inject(memnet.Datagram{From: c.nodes["b"].addr, To: b.addr, Data: make([]byte, 60+i%10)})
				if i%100 == 0 {
					synctest.Wait()
				}
			}
			for i := range 1000 {
				conn := dialFrom(t, c, everywhere(i), b)
				conn.Write(make([]byte, wire.KnockSize))
				hearOut(conn)
				conn.Close()
			}
			synctest.Wait()
			if got := strings.Count(b.log.String(), "\n"); got != minute-1 {
				t.Errorf("minute %d: %d lines before it is over", minute, got)
			}
			time.Sleep(summaryInterval)
			synctest.Wait()
			lines := strings.Split(strings.TrimSpace(b.log.String()), "\n")
			if len(lines) != minute {
				t.Fatalf("minute %d: %d lines:\n%s", minute, len(lines), b.log.String())
			}
			_, got, _ := strings.Cut(lines[minute-1], "level=")
			if want := `INFO msg="strangers turned away" drop_door=1000 drop_size=9000 strangers_dropped=1000`; got != want {
				t.Errorf("minute %d: got %s, want %s", minute, got, want)
			}
		}
		before := b.log.String()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := b.log.String(); got != before {
			t.Errorf("when nobody comes: %s", got[len(before):])
		}
	})
}

// What strangers did at other listeners of the agent is in the same line.
func TestSummaryIncludesOtherListeners(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		b := c.node("b")
		b.others = func() map[string]uint64 { return map[string]uint64{"rpc_strangers_dropped": 7} }
		b.start()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := b.log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "rpc_strangers_dropped=7") {
			t.Errorf("got %s", got)
		}
	})
}
