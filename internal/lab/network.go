package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// Network is network namespaces joined by a bridge. The bridge lies in one more
// namespace, so that the host's own network does not change.
type Network struct {
	hub        *Namespace
	namespaces []*Namespace
}

// Namespace is one host of a network. Its only way out is eth0, on the bridge.
type Namespace struct {
	Name  string // as ip(8) knows it
	Addrs []netip.Prefix
}

// WhyNoNetworks says why networks cannot be made here. It is empty if they can;
// otherwise it is what a test skips with.
func WhyNoNetworks(ctx context.Context) string {
	if runtime.GOOS != "linux" {
		return "network namespaces are a thing of Linux"
	}
	if os.Geteuid() != 0 {
		return "network namespaces need root"
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Sprintf("network namespaces need %s, which is not installed", program)
		}
	}
	// In a container root may lack the right, and a kernel the parts.
	n, err := NewNetwork(ctx)
	if err != nil {
		return fmt.Sprintf("network namespaces cannot be made: %v", err)
	}
	_, err = n.hub.Run(ctx, "nft", "list", "ruleset")
	if err = errors.Join(err, n.Remove()); err != nil {
		return fmt.Sprintf("network namespaces cannot be made: %v", err)
	}
	return ""
}

// NewNetwork makes a network without hosts. It leaves nothing when it fails.
func NewNetwork(ctx context.Context) (*Network, error) {
	// The process id says whose it is, and chance sets apart networks of one
	// process: two of them never have a name in common.
	n := &Network{hub: &Namespace{Name: fmt.Sprintf("secgossip-%d-%s", os.Getpid(), strings.ToLower(rand.Text()[:8]))}}
	if err := add(ctx, n.hub); err != nil {
		return nil, err
	}
	if err := n.hub.ip(ctx, "link add bridge type bridge", "link set bridge up"); err != nil {
		return nil, errors.Join(err, n.Remove())
	}
	return n, nil
}

// Add makes a host with chosen addresses, of either family and in any networks:
// all addresses on the bridge are reached directly.
func (n *Network) Add(ctx context.Context, addrs ...netip.Prefix) (*Namespace, error) {
	number := len(n.namespaces) + 1
	space := &Namespace{Name: fmt.Sprintf("%s-%d", n.hub.Name, number), Addrs: addrs}
	if err := add(ctx, space); err != nil {
		return nil, err
	}
	n.namespaces = append(n.namespaces, space) // from here on Remove finds it
	err := n.hub.ip(ctx,
		fmt.Sprintf("link add port%d type veth peer name eth0 netns %s", number, space.Name),
		fmt.Sprintf("link set port%d master bridge up", number),
	)
	if err != nil {
		return nil, err
	}
	lines := []string{"link set lo up", "link set eth0 up"}
	families := make(map[string]bool)
	for _, addr := range addrs {
		if addr.Addr().Is4() {
			lines = append(lines, fmt.Sprintf("addr add %s dev eth0", addr))
			families["-4"] = true
		} else {
			// Nobody else has it, and an agent that starts now must be able to
			// listen there.
			lines = append(lines, fmt.Sprintf("addr add %s dev eth0 nodad", addr))
			families["-6"] = true
		}
	}
	for family := range families {
		lines = append(lines, family+" route add default dev eth0")
	}
	return space, space.ip(ctx, lines...)
}

// Remove takes the network away. Stop what runs in it first.
func (n *Network) Remove() error {
	// Whoever is told to stop must still be able to tidy up.
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var problems []error
	for _, space := range append(n.namespaces, n.hub) {
		_, err := output(ctx, "", "ip", "netns", "del", space.Name)
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

func add(ctx context.Context, space *Namespace) error {
	_, err := output(ctx, "", "ip", "netns", "add", space.Name)
	return err
}

// Prefix is what starts a program in this namespace and becomes it.
func (s *Namespace) Prefix() []string { return []string{"ip", "netns", "exec", s.Name} }

// Run runs a program in this namespace and returns its standard output.
func (s *Namespace) Run(ctx context.Context, argv ...string) (string, error) {
	return output(ctx, "", append(s.Prefix(), argv...)...)
}

// Filter adds to this namespace's packet filter, in the language of nft(8).
func (s *Namespace) Filter(ctx context.Context, rules string) error {
	_, err := output(ctx, rules, append(s.Prefix(), "nft", "-f", "-")...)
	return err
}

// Unfilter takes the whole packet filter of this namespace away.
func (s *Namespace) Unfilter(ctx context.Context) error { return s.Filter(ctx, "flush ruleset\n") }

// ip runs lines of ip(8) in this namespace.
func (s *Namespace) ip(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		if _, err := output(ctx, "", append([]string{"ip", "-n", s.Name}, strings.Fields(line)...)...); err != nil {
			return err
		}
	}
	return nil
}

// output runs a program that ends by itself. Its error says what the program said.
func output(ctx context.Context, stdin string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stdout, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.SysProcAttr = apart()
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
