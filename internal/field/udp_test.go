package field

import (
	"strings"
	"testing"
)

const (
	udp    = "udp"
	stream = "stream"
)

// Nothing comes to b by UDP, from the start. Later nothing goes out either, on
// paths that have worked; and then everything is as it should be.
func TestEventsGetThroughWhileUDPIsBlockedOneWayAndBothWays(t *testing.T) {
	f := newField(t, "b", "c")
	a, b, c := f.add("a", "203.0.113.1/24"), f.add("b", "203.0.113.2/24"), f.add("c", "198.51.100.3/24")
	f.filter(b, "input", "udp dport 7946 drop")
	f.start(a, a.at())
	f.start(c, c.at(), "--join", a.at())
	f.start(b, b.at(), "--join", a.at())
	f.awaitAlive()
	f.awaitLogged(blockedWithin, a, isBlocked, "b")
	f.awaitLogged(blockedWithin, c, isBlocked, "b")
	f.awaitPaths(a, map[string]string{"b": stream, "c": udp})
	f.awaitPaths(b, map[string]string{"a": udp, "c": udp})
	f.awaitPaths(c, map[string]string{"a": udp, "b": stream})
	f.everybodyHears("one way")

	for _, h := range []*host{a, c} {
		f.filter(h, "input", "ip saddr 203.0.113.2 udp dport 7946 drop")
	}
	// What is said at b until b notices may be lost.
	f.everybodyHears("not noticed yet", a, c)
	f.awaitLogged(blockedWithin, b, isBlocked, "a", "c")
	f.awaitPaths(a, map[string]string{"b": stream, "c": udp})
	f.awaitPaths(b, map[string]string{"a": stream, "c": stream})
	f.awaitPaths(c, map[string]string{"a": udp, "b": stream})
	f.everybodyHears("both ways")

	for _, h := range f.hosts {
		f.must(h.Unfilter(t.Context()))
	}
	f.awaitLogged(openWithin, a, worksAgain, "b")
	f.awaitLogged(openWithin, b, worksAgain, "a", "c")
	f.awaitLogged(openWithin, c, worksAgain, "b")
	f.awaitPaths(a, map[string]string{"b": udp, "c": udp})
	f.awaitPaths(b, map[string]string{"a": udp, "c": udp})
	f.awaitPaths(c, map[string]string{"a": udp, "b": udp})
	f.everybodyHears("free")
	f.loggedOnce([2]string{"a", "b"}, [2]string{"c", "b"}, [2]string{"b", "a"}, [2]string{"b", "c"})
	f.nobodyFailed()
}

// Long datagrams get lost without a word on their way to a host and from it, as
// where a tunnel begins that nobody speaks of. Short ones get through.
func TestEventsGetThroughWhereThePathIsTooNarrow(t *testing.T) {
	f := newField(t, "b", "c")
	a, b, c := f.add("a", "203.0.113.1/24"), f.add("b", "203.0.113.2/24"), f.add("c", "198.51.100.3/24")
	for _, hook := range []string{"input", "output"} {
		f.filter(b, hook, "udp length > 1000 drop")
	}
	f.start(a, a.at())
	f.start(c, c.at(), "--join", a.at())
	f.start(b, b.at(), "--join", a.at())
	f.awaitAlive()
	f.awaitLogged(blockedWithin, a, isBlocked, "b")
	f.awaitLogged(blockedWithin, b, isBlocked, "a", "c")
	f.awaitLogged(blockedWithin, c, isBlocked, "b")
	f.awaitPaths(a, map[string]string{"b": stream, "c": udp})
	f.awaitPaths(b, map[string]string{"a": stream, "c": stream})
	f.awaitPaths(c, map[string]string{"a": udp, "b": stream})
	f.everybodyHears("short")
	f.everybodyHears(strings.Repeat("long ", 100))
	shown, err := f.Ask(t.Context(), keeper, a.Node, "members", "--detailed", "--name", "b")
	if f.check(err); !strings.Contains(shown, "Path: stream (udp is blocked)") {
		t.Errorf("members --detailed shows %q, want that b is reached by stream", shown)
	}

	f.must(b.Unfilter(t.Context()))
	f.awaitLogged(openWithin, a, worksAgain, "b")
	f.awaitLogged(openWithin, b, worksAgain, "a", "c")
	f.awaitLogged(openWithin, c, worksAgain, "b")
	f.awaitPaths(a, map[string]string{"b": udp, "c": udp})
	f.awaitPaths(b, map[string]string{"a": udp, "c": udp})
	f.everybodyHears(strings.Repeat("long and free ", 35))
	f.loggedOnce([2]string{"a", "b"}, [2]string{"c", "b"}, [2]string{"b", "a"}, [2]string{"b", "c"})
	f.nobodyFailed()
}
