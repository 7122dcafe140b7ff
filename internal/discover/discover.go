// Package discover finds addresses to join by. What it finds is a hint and nothing
// more: whoever answers there must prove that they are a node of the cluster.
package discover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// srvPrefix begins a place that is the name of SRV records (RFC 2782), as in
// srv:_secgossip._tcp.example.org.
const srvPrefix = "srv:"

const (
	// MaxAddresses is how many addresses one place may stand for: more are not
	// needed to find a cluster, and each is dialled.
	MaxAddresses = 64

	// lookupTime bounds one lookup.
	lookupTime = 5 * time.Second
)

// A Finder turns the places of the settings into addresses. The zero value asks
// the host's resolver, and runs no program.
type Finder struct {
	// LookupSRV is net.Resolver's.
	LookupSRV func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	// Run asks a provider, which the settings of this host must name.
	Run func(ctx context.Context, place string) ([]string, error)
}

// ErrNoPrograms says that a place is a program, where none may be named.
var ErrNoPrograms = errors.New("a program is named by the settings of its own host alone: --join, --retry-join")

// CheckPlace refuses a place that can never be found.
func CheckPlace(place string) error {
	if strings.HasPrefix(place, execPrefix) {
		return checkProvider(place)
	}
	name, ok := strings.CutPrefix(place, srvPrefix)
	switch {
	case ok && (name == "" || len(name) > 255 || strings.ContainsAny(name, " \t\n:/")):
		return fmt.Errorf("%q: want %sNAME, the name of SRV records", place, srvPrefix)
	case !ok && !isAddress(withoutZone(place)):
		return fmt.Errorf("%.64q: want HOST, HOST:PORT, %sNAME or %s/PATH", place, srvPrefix, execPrefix)
	}
	return nil
}

// withoutZone is an address without what says on which link of this host it is. The
// settings may say so, a provider may not.
func withoutZone(address string) string {
	before, zone, _ := strings.Cut(address, "%")
	if i := strings.IndexByte(zone, ']'); i >= 0 {
		return before + zone[i:]
	}
	return before
}

// Find returns the addresses that places stand for now, in their order: an address
// stands for itself, names in it are for the node to look up. It is asked anew at
// every attempt, for what names stand for changes. With an error it returns those
// that were found all the same.
func (f Finder) Find(ctx context.Context, places []string) ([]string, error) {
	var addresses []string
	var problems []error
	for _, place := range places {
		if _, _, ok := Provider(place); ok {
			found, err := f.provided(ctx, place)
			if err != nil {
				problems = append(problems, fmt.Errorf("asking %q: %w", shown(place), err))
			}
			addresses = append(addresses, found...)
			continue
		}
		name, ok := strings.CutPrefix(place, srvPrefix)
		if !ok {
			addresses = append(addresses, place)
			continue
		}
		found, err := f.srv(ctx, name)
		if err != nil {
			problems = append(problems, fmt.Errorf("looking up %q: %w", place, err))
		}
		addresses = append(addresses, found...)
	}
	return addresses, errors.Join(problems...)
}

// provided returns what a provider prints.
func (f Finder) provided(ctx context.Context, place string) ([]string, error) {
	if f.Run == nil {
		return nil, ErrNoPrograms
	}
	found, err := f.Run(ctx, place)
	if err == nil && len(found) == 0 {
		err = errors.New("it names nobody")
	}
	return found, err
}

// srv returns host and port of each record, in the order of priority and weight.
func (f Finder) srv(ctx context.Context, name string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	lookup := f.LookupSRV
	if lookup == nil {
		lookup = net.DefaultResolver.LookupSRV
	}
	_, records, err := lookup(ctx, "", "", name)
	if err != nil {
		return nil, err
	}
	var addresses []string
	for _, r := range records[:min(len(records), MaxAddresses)] {
		// A lone dot says that there is no such service.
		if host := strings.TrimSuffix(r.Target, "."); host != "" && r.Port != 0 {
			addresses = append(addresses, net.JoinHostPort(host, strconv.Itoa(int(r.Port))))
		}
	}
	if len(addresses) == 0 {
		return nil, errors.New("no host is named")
	}
	return addresses, nil
}
