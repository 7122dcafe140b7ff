package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// With one of these in its environment the test program is the listener, or the
// dialler, of a namespace.
const (
	listenAt = "LAB_TEST_LISTEN"
	dialTo   = "LAB_TEST_DIAL"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(listenAt); addr != "" {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ready")
		io.Copy(io.Discard, os.Stdin) // until the test lets go
		l.Close()
		return
	}
	if addr := os.Getenv(dialTo); addr != "" {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		conn.Close()
		return
	}
	os.Exit(secgossip.Run(m))
}

// secgossip is the program, for all tests.
var secgossip Binary

// helper is the test program, to be run in a namespace.
func helper(t *testing.T, in *Namespace, env string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	argv := append(in.Prefix(), self)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env)
	return cmd
}

// listen listens in a namespace until the test is over.
func listen(t *testing.T, in *Namespace, addr string) {
	cmd := helper(t, in, listenAt+"="+addr)
	stdin, inErr := cmd.StdinPipe()
	stdout, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	said := make([]byte, 100)
	n, err := stdout.Read(said)
	if got := string(said[:n]); err != nil || got != "ready\n" {
		t.Fatalf("listening at %s: got %q, %v", addr, got, err)
	}
}

func dial(t *testing.T, in *Namespace, addr string) error {
	return helper(t, in, dialTo+"="+addr).Run()
}

func TestNamespacesReachEachOtherUntilAFilterStopsThem(t *testing.T) {
	if why := WhyNoNetworks(t.Context()); why != "" {
		t.Skip(why)
	}
	network, err := NewNetwork(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Remove(); err != nil {
			t.Error(err)
		}
	})
	one, err := network.Add(t.Context(), netip.MustParsePrefix("203.0.113.7/24"), netip.MustParsePrefix("2001:db8::7/64"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := network.Add(t.Context(), netip.MustParsePrefix("198.51.100.8/24"), netip.MustParsePrefix("2001:db8:1::8/64"))
	if err != nil {
		t.Fatal(err)
	}
	addrs := []string{"203.0.113.7:7946", "[2001:db8::7]:7946"}
	for _, addr := range addrs {
		listen(t, one, addr)
		if err := dial(t, other, addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	drop := "table inet lab { chain in { type filter hook input priority 0; iifname eth0 tcp dport 7946 drop; }; }\n"
	if err := one.Filter(t.Context(), drop); err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		if err := dial(t, other, addr); err == nil {
			t.Errorf("%s: reached behind the filter", addr)
		}
	}
	if err := one.Unfilter(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		if err := dial(t, other, addr); err != nil {
			t.Errorf("%s, once the filter is gone: %v", addr, err)
		}
	}
}

func TestNothingRemainsOfANetwork(t *testing.T) {
	if why := WhyNoNetworks(t.Context()); why != "" {
		t.Skip(why)
	}
	network, err := NewNetwork(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := network.Add(t.Context(), netip.MustParsePrefix("192.0.2.1/24")); err != nil {
		t.Error(err)
	}
	if err := network.Remove(); err != nil {
		t.Error(err)
	}
	list, err := output(t.Context(), "", "ip", "netns", "list")
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(strings.Split(list, "\n"), func(line string) bool { return strings.HasPrefix(line, network.hub.Name) }) {
		t.Errorf("got %q, want none that begins with %s", list, network.hub.Name)
	}
}
