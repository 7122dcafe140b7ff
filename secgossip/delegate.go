package secgossip

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/pki"
)

// This file is what memberlist asks of us, other than member events.

// NodeMeta implements memberlist.Delegate: our tags.
func (n *Node) NodeMeta(int) []byte { return encodeTags(n.currentTags()) }

// NotifyMsg implements memberlist.Delegate. Events have packets of their own and
// guard lets no user message through.
func (n *Node) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (n *Node) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate. What members tell each other besides
// membership is told by the sync at the start of the stream.
func (n *Node) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (n *Node) MergeRemoteState([]byte, bool) {}

// errMember is all memberlist gets to log about a refused statement.
var errMember = errors.New("not acceptable")

// NotifyAlive implements memberlist.AliveDelegate, the second line behind guard:
// the node has shown a record, the address is its own, versions are ours and the
// tags read. It runs under memberlist's lock.
func (n *Node) NotifyAlive(m *memberlist.Node) error {
	if err := n.roster.CheckAlive(m.Name, m.Addr, m.Port); err != nil {
		return err
	}
	// Of ourselves memberlist must hear in any case.
	if p := n.roster.Get(pki.Name(m.Name)); p != nil && p.Name != n.config.Identity.Name && n.roster.Revoked(p) {
		return fmt.Errorf("%w: %w", errMember, pki.ErrRevoked)
	}
	own := n.settings.BuildVsnArray()
	if !bytes.Equal([]byte{m.PMin, m.PMax, m.PCur, m.DMin, m.DMax, m.DCur}, own) {
		return fmt.Errorf("%w: versions", errMember)
	}
	if _, err := decodeTags(m.Meta); err != nil {
		return fmt.Errorf("%w: %w", errMember, err)
	}
	return nil
}

// knock computes the MAC of a knock under the cluster's knock key.
func (n *Node) knock(data []byte) [32]byte {
	sum, err := n.config.Keyring.Keyring().Knock().MAC(data)
	if err != nil {
		// The keyring is closed. Nobody can guess this, so nobody knocks.
		rand.Read(sum[:])
	}
	return sum
}

// memberlistLog turns memberlist's log lines into ours. What memberlist calls an
// error is a member not answering, so nothing of it is above a warning, and the
// names in it are quoted by slog.
//
// A member can cause some of these lines as fast as it sends. Of warnings,
// maxWarnings a second are let through; how many were not is said by the next.
type memberlistLog struct {
	node *Node

	mu      sync.Mutex
	second  time.Time // when the current second began
	written int       // warnings in it
	skipped int       // warnings since the last that was written
}

// maxWarnings is how many warnings a second are written: a start or the loss of
// a network has fewer, and at 200 bytes each it is 170 MB a day at the worst.
const maxWarnings = 10

// admit reports whether a warning is written now, and how many before it were
// not.
func (l *memberlistLog) admit(now time.Time) (skipped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since := now.Sub(l.second); since < 0 || since >= time.Second {
		l.second, l.written = now, 0
	}
	if l.written >= maxWarnings {
		l.skipped++
		return 0, false
	}
	l.written++
	skipped, l.skipped = l.skipped, 0
	return skipped, true
}

// probedByTCP is in what memberlist says each time that a probe by UDP is lost and
// one by TCP is answered. The transport looks into that and says it once.
const probedByTCP = "over TCP but UDP probes failed"

func (l *memberlistLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level := slog.LevelDebug
	// After Close it finds its transport gone, which is as it should be.
	if n := l.node; n.ctx.Err() == nil && (strings.HasPrefix(text, "[WARN]") || strings.HasPrefix(text, "[ERR]")) &&
		!strings.Contains(text, probedByTCP) {
		level = slog.LevelWarn
	}
	if _, after, ok := strings.Cut(text, "] memberlist: "); ok {
		text = after
	}
	attrs := []slog.Attr{slog.String("detail", text)}
	if level == slog.LevelWarn {
		skipped, ok := l.admit(time.Now())
		if !ok {
			return len(line), nil
		}
		if skipped > 0 {
			attrs = append(attrs, slog.Int("skipped", skipped))
		}
	}
	l.node.logger.LogAttrs(context.Background(), level, "memberlist", attrs...)
	return len(line), nil
}

// defaultPort is the port of a seed named without one.
const defaultPort = "7946"

// resolve turns HOST, HOST:PORT or an IP address into endpoints.
func resolve(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.Trim(address, "[]"), defaultPort
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || host == "" {
		return nil, fmt.Errorf("address %q: want HOST or HOST:PORT, with a port from 1 to 65535", address)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(addr.Unmap(), uint16(number))}, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	var endpoints []netip.AddrPort
	for _, addr := range addrs {
		endpoints = append(endpoints, netip.AddrPortFrom(addr.Unmap(), uint16(number)))
	}
	return endpoints, nil
}

// flatten takes memberlist's list of one error apart.
func flatten(err error) error {
	var many *multierror.Error
	if errors.As(err, &many) && len(many.Errors) == 1 {
		return many.Errors[0]
	}
	return err
}
