package secgossip

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/secgossip/secgossip/keyring"
)

func TestSequenceThatCannotBeSignedIsNotKept(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		before := a.node.self.current()
		if err := a.node.renewRecord(math.MaxInt64); err == nil {
			t.Fatal("a sequence that is too large was signed")
		}
		if !bytes.Equal(a.node.self.current(), before) {
			t.Error("the record in force is another one")
		}
		if err := a.node.renewRecord(0); err != nil {
			t.Errorf("the next record: %v", err)
		}
	})
}

func TestNodeThatCannotSignItsLastRecordLeavesAllTheSame(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, _, _ := c.three()
		a.identity.Signing.(*keyring.SigningKey).Destroy()
		if err := a.node.Leave(); !errors.Is(err, keyring.ErrDestroyed) {
			t.Errorf("got %v, want to be told of the key", err)
		}
		// memberlist counts itself until it leaves.
		if got := a.node.list.NumMembers(); got != 2 {
			t.Errorf("got %d members, want the two others", got)
		}
	})
}

// logBuffer is a log that nodes write to and a test reads.
type logBuffer struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (b *logBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(line)
}

func (b *logBuffer) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.out.String(), text)
}

func TestNodeThatLeftLooksForNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		log := new(logBuffer)
		c.logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		a, b, _ := c.three()
		b.crash()
		time.Sleep(time.Minute)
		const away = "node is still away"
		if len(lines(log, "at=a", away)) == 0 {
			t.Fatal("nobody looks for the node that failed")
		}
		if err := a.node.Leave(); err != nil {
			t.Fatal(err)
		}
		mark := len(lines(log, "at=a", away))
		time.Sleep(time.Minute)
		if got := len(lines(log, "at=a", away)); got != mark {
			t.Errorf("the node that left tried %d times to reach another", got-mark)
		}
	})
}

// lines are those lines of a log that hold all of the texts.
func lines(b *logBuffer, texts ...string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []string
next:
	for line := range strings.Lines(b.out.String()) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue next
			}
		}
		found = append(found, line)
	}
	return found
}

func TestNodeThatLeftKeepsNoRecords(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, _, _ := c.three()
		a.node.saveRecords()
		path := filepath.Join(a.state, recordsFile)
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
		var saving sync.WaitGroup
		for range 8 {
			saving.Go(func() {
				a.node.saving.Lock()
				a.node.saved = [32]byte{} // so that there is something to save
				a.node.saving.Unlock()
				a.node.saveRecords()
			})
		}
		if err := a.node.Leave(); err != nil {
			t.Error(err)
		}
		saving.Wait()
		a.node.saveRecords()
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want no records", err)
		}
	})
}

func TestWarningsOfMemberlistAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		log := new(logBuffer)
		c.logger = slog.New(slog.NewTextHandler(log, nil))
		a := c.host("a").start()
		m := &memberlistLog{node: a.node}
		for range 1000 {
			m.Write([]byte("[WARN] memberlist: noise\n"))
			m.Write([]byte("[ERR] memberlist: noise\n"))
		}
		if got := log.count("detail=noise"); got != maxWarnings {
			t.Errorf("got %d lines, want %d", got, maxWarnings)
		}
		if log.count("skipped=") != 0 {
			t.Error("a line says that lines before it were skipped")
		}
		time.Sleep(time.Second)
		m.Write([]byte("[WARN] memberlist: noise\n"))
		m.Write([]byte("[WARN] memberlist: noise\n"))
		if got := lines(log, "skipped=1990"); len(got) != 1 || log.count("skipped=") != 1 {
			t.Errorf("got %q, want one line that says how many were skipped", got)
		}
	})
}

// Of a member whose UDP is blocked the transport tells, once, and not memberlist
// at every probe.
func TestLostProbesByUDPAreNoWarnings(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		log := new(logBuffer)
		c.logger = slog.New(slog.NewTextHandler(log, nil))
		a, b, d := c.three()
		c.net.BlockUDP(a.addr.Addr(), b.addr.Addr())
		c.net.BlockUDP(d.addr.Addr(), b.addr.Addr())
		time.Sleep(time.Minute)
		if got := lines(log, "level=WARN"); len(got) != 2 || log.count("its packets go by stream") != 2 {
			t.Errorf("got %q, want that a and d, once each, cannot reach b", got)
		}
	})
}
