package discover

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
)

func TestPlacesStandForTheAddressesOfNow(t *testing.T) {
	records := []*net.SRV{{Target: "web-1.example.org.", Port: 7946}, {Target: "2001:db8::1", Port: 1}, {Target: ".", Port: 7946}, {Target: "web-3.", Port: 0}}
	f := Finder{LookupSRV: func(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
		if service != "" || proto != "" || name != "_secgossip._tcp.example.org" {
			return "", nil, errors.New("no such name")
		}
		return name, records, nil
	}}
	places := []string{"203.0.113.7:7946", "srv:_secgossip._tcp.example.org", "web-9"}
	got, err := f.Find(t.Context(), places)
	if want := []string{"203.0.113.7:7946", "web-1.example.org:7946", "[2001:db8::1]:1", "web-9"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	records = []*net.SRV{{Target: "web-2.example.org.", Port: 7947}}
	if got, _ := f.Find(t.Context(), places); !slices.Contains(got, "web-2.example.org:7947") || slices.Contains(got, "web-1.example.org:7946") {
		t.Errorf("%q has not what the name stands for now", got)
	}
	// What cannot be found keeps nobody from the rest.
	got, err = f.Find(t.Context(), []string{"srv:nowhere", "web-9"})
	if err == nil || !slices.Equal(got, []string{"web-9"}) {
		t.Errorf("%q, %v", got, err)
	}
	records = []*net.SRV{{Target: "."}}
	if got, err := f.Find(t.Context(), places[1:2]); err == nil || len(got) > 0 {
		t.Errorf("a service that there is not: %q, %v", got, err)
	}
}

func TestOnePlaceStandsForSoManyAddressesAtMost(t *testing.T) {
	f := Finder{LookupSRV: func(context.Context, string, string, string) (string, []*net.SRV, error) {
		return "", slices.Repeat([]*net.SRV{{Target: "web-1.", Port: 7946}}, 10_000), nil
	}}
	if got, err := f.Find(t.Context(), []string{"srv:x"}); err != nil || len(got) != MaxAddresses {
		t.Errorf("%d addresses, %v, want %d", len(got), err, MaxAddresses)
	}
}

func TestPlacesThatCannotBeAreRefused(t *testing.T) {
	for _, place := range []string{
		"srv:", "srv:a b", "srv:a:7946", "srv:a/b",
		"", "web 1", "web-1:", "web-1:0", "web-1:65536", "0.0.0.0", "dns:web-1", "https://web-1", strings.Repeat("a", MaxAddress+1),
	} {
		if CheckPlace(place) == nil {
			t.Errorf("%q is taken", place)
		}
	}
	for _, place := range []string{"srv:_secgossip._tcp.example.org", "web-1", "web-1:7946", "203.0.113.7", "203.0.113.7:7946", "2001:db8::1", "[2001:db8::1]:7946", "fe80::1%eth0", "[fe80::1%eth0]:7946"} {
		if err := CheckPlace(place); err != nil {
			t.Errorf("%q: %v", place, err)
		}
	}
}
