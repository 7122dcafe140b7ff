package secgossip

import (
	"os"
	"testing"
	"time"
)

// backWithin is how soon a host is a member again that nobody helps.
const backWithin = 5 * time.Second

// wantBack checks that all are one cluster again in time.
func (c *cluster) wantBack(hosts ...*host) {
	c.t.Helper()
	time.Sleep(backWithin)
	c.wantOne(hosts...)
}

// The best known complaint about rotated keys: who was away is locked out.
func TestHostThatWasAwayForTenRotationsComesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		d.crash()
		time.Sleep(time.Minute)
		for range 10 {
			c.rotate(a)
			time.Sleep(6 * time.Minute)
		}
		d.start()
		c.wantBack(a, b, d)
	})
}

// Its disk is as it was ten rotations ago: keyring, known nodes and all.
func TestHostThatIsRestoredFromAnOldImageComesBack(t *testing.T) {
	for _, running := range []bool{false, true} {
		inBubble(t, func(t *testing.T, c *cluster) {
			a, b, d := c.three()
			time.Sleep(2 * saveInterval)
			image := t.TempDir()
			if !running { // then the last it wrote is in it
				d.stop()
			}
			copyFolder(t, d.state, image)
			if !running {
				d.start()
			}
			for range 10 {
				time.Sleep(time.Minute)
				c.rotate(a)
			}
			d.crash()
			if err := os.RemoveAll(d.state); err != nil {
				t.Fatal(err)
			}
			copyFolder(t, image, d.state)
			d.start()
			c.wantBack(a, b, d)
		})
	}
}

// It was cut off while the others rotated: nothing of it was restarted.
func TestHostThatWasCutOffForTenRotationsComesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		for _, other := range []*host{a, b} {
			c.net.Block(d.addr.Addr(), other.addr.Addr())
			c.net.Block(other.addr.Addr(), d.addr.Addr())
		}
		time.Sleep(time.Minute)
		for range 10 {
			c.rotate(a)
		}
		for _, other := range []*host{a, b} {
			c.net.Unblock(d.addr.Addr(), other.addr.Addr())
			c.net.Unblock(other.addr.Addr(), d.addr.Addr())
		}
		c.wantBack(a, b, d)
	})
}

// copyFolder copies the files of a folder into another, with their modes.
func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, entry := range must(os.ReadDir(from))(t) {
		info := must(entry.Info())(t)
		content := must(os.ReadFile(from + "/" + entry.Name()))(t)
		if err := os.WriteFile(to+"/"+entry.Name(), content, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
}

// News that a member is back may miss a node. It hears the member itself, and does not
// wait for its turn among many.
func TestMemberThatIsHeardAlthoughItFailedIsTriedNext(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, _, d := c.three()
		time.Sleep(freshFor)
		picks := func() (times int) {
			a.node.members.set(d.name, StatusFailed, nil)
			for range 100 {
				if p := a.node.toTry(); p != nil && string(p.Name) == d.name {
					times++
				}
			}
			a.node.members.set(d.name, StatusAlive, nil)
			return times
		}
		if err := d.node.transport.Report(d.node.roster.Get("a")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := picks(); got != 100 {
			t.Errorf("a member whose packets come was tried %d times of 100", got)
		}
		c.net.Block(d.addr.Addr(), a.addr.Addr())
		time.Sleep(heardFor + time.Second)
		if got := picks(); got < 10 || got > 90 {
			t.Errorf("a member that is not heard was tried %d times of 100, want about a third: there are three", got)
		}
	})
}
