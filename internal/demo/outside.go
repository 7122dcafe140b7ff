package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/secgossip/secgossip/internal/lab"
)

// knockFromOutside sends one agent what scanners and old tools send. It must
// answer nothing, log none of it by itself and count it all.
func knockFromOutside(ctx context.Context, n *narrator, c *cluster) error {
	n.step("Packets from outside, for the gossip port of web-2. They cost counters and nothing else:")
	target := c.nodes[1]
	before, err := c.Counters(ctx, memo, target)
	if err != nil {
		return err
	}
	logged, err := lab.ReadLines(c.Log(target.Name))
	if err != nil {
		return err
	}
	if err := c.sendDatagrams(ctx, n, target, before); err != nil {
		return fmt.Errorf("datagrams from outside: %w", err)
	}
	if err := c.sendJunk(ctx, n, target, before); err != nil {
		return fmt.Errorf("junk over TCP: %w", err)
	}
	now, err := lab.ReadLines(c.Log(target.Name))
	if err != nil {
		return err
	}
	for _, line := range now[len(logged):] {
		// On a busy machine a probe can take too long. Such lines name a
		// member; nothing that was sent from outside does. The line of a minute
		// that ends just now counts all of it together.
		if !strings.Contains(line, "web-1") && !strings.Contains(line, "web-3") && !strings.Contains(line, "strangers turned away") {
			return fmt.Errorf("packets from outside made web-2 log %q", line)
		}
	}
	n.show("the log of web-2 has no line for any of it")
	return nil
}

// The datagrams of the burst. They are sent some at a time, which the agent's
// socket holds even when it cannot read at once.
const (
	randomDatagrams = 200
	atOnce          = 25
)

// plaintextPing is what memberlist without encryption answers: a ping, in its
// encoding. It names nobody, so whoever hears it is meant.
const plaintextPing = "\x00\x82\xa5SeqNo\x01\xa4Node\xa0"

// sendDatagrams sends a burst in which every other datagram has a length that
// datagrams of a cluster have, so that it gets as far as the door.
func (c *cluster) sendDatagrams(ctx context.Context, n *narrator, target *lab.Node, before counters) error {
	conn, err := net.Dial("udp", target.Gossip)
	if err != nil {
		return err
	}
	defer conn.Close()
	var wrongSize, wrongDoor uint64
	now := before
	send := func(datagram []byte) error {
		if len(datagram)%64 == 0 {
			wrongDoor++
		} else {
			wrongSize++
		}
		if _, err := conn.Write(datagram); err != nil || (wrongDoor+wrongSize)%atOnce != 0 {
			return err
		}
		now, err = c.awaitCounters(ctx, target, before.and("drop_size", wrongSize).and("drop_door", wrongDoor))
		return err
	}
	for i := range randomDatagrams {
		datagram := make([]byte, 64*(1+i/2%19)+i%2*17)
		rand.Read(datagram)
		if err := send(datagram); err != nil {
			return err
		}
	}
	filledUp := make([]byte, 64)
	copy(filledUp, plaintextPing)
	if err := errors.Join(send([]byte(plaintextPing)), send(filledUp)); err != nil {
		return err
	}
	if now, err = c.awaitCounters(ctx, target, before.and("drop_size", wrongSize).and("drop_door", wrongDoor)); err != nil {
		return err
	}
	// All of it has been dealt with: an answer would be here.
	if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return err
	}
	if got, err := conn.Read(make([]byte, 2048)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("got %d bytes and %v, want silence", got, err)
	}
	n.show("%d random datagrams and 2 plaintext pings over UDP: 0 bytes came back; drop_size +%d, drop_door +%d",
		randomDatagrams, now["drop_size"]-before["drop_size"], now["drop_door"]-before["drop_door"])
	return nil
}

// sendJunk connects by TCP and says something that is no knock.
func (c *cluster) sendJunk(ctx context.Context, n *narrator, target *lab.Node, before counters) error {
	conn, err := net.Dial("tcp", target.Gossip)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(lab.Patience)); err != nil {
		return err
	}
	junk := bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 16)
	if _, err := conn.Write(junk); err != nil {
		return err
	}
	// A reset is the end of a connection whose other side read no further.
	got, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) || len(got) > 0 {
		return fmt.Errorf("got %d bytes and %v, want the end of the connection", len(got), err)
	}
	now, err := c.awaitCounters(ctx, target, before.and("strangers_dropped", 1))
	if err != nil {
		return err
	}
	n.show("%d bytes of junk over TCP: closed without a byte; strangers_dropped +%d",
		len(junk), now["strangers_dropped"]-before["strangers_dropped"])
	return nil
}

// counters are the figures of an agent's gossip.
type counters map[string]uint64

// and returns the counters of which one is higher.
func (c counters) and(name string, more uint64) counters {
	sum := maps.Clone(c)
	sum[name] += more
	return sum
}

// awaitCounters waits until what strangers move has reached want, and returns
// the figures then.
func (c *cluster) awaitCounters(ctx context.Context, at *lab.Node, want counters) (now counters, err error) {
	err = lab.Await(ctx, func(ctx context.Context) error {
		if now, err = c.Counters(ctx, memo, at); err != nil {
			return err
		}
		for _, name := range []string{"drop_size", "drop_door", "strangers_dropped"} {
			if now[name] < want[name] {
				return fmt.Errorf("counter %s of %s: got %d, want %d", name, at.Name, now[name], want[name])
			}
		}
		return nil
	})
	return now, err
}
