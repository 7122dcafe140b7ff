package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/secgossip"
)

// coalesced runs a story in virtual time and returns what is delivered: "3s member-join a b".
func coalesced(t *testing.T, story func(add func(kind string, names ...string))) (got []string, c *coalescer) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		c = newCoalescer(func(kind string, members []secgossip.Member) {
			var names []string
			for _, m := range members {
				names = append(names, m.Name)
			}
			got = append(got, fmt.Sprintf("%v %s %s", time.Since(begin), kind, strings.Join(names, " ")))
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.run(ctx); close(done) }()
		story(func(kind string, names ...string) {
			for _, name := range names {
				c.add(kind, secgossip.Member{Name: name})
			}
		})
		time.Sleep(time.Minute)
		cancel()
		<-done
	})
	return got, c
}

func wantDelivered(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestMemberEventsOfAWaveAreOneOfEachKind(t *testing.T) {
	got, _ := coalesced(t, func(add func(string, ...string)) {
		add("member-join", "b", "a", "d")
		add("member-failed", "d") // the newest counts
	})
	wantDelivered(t, got, "1s member-failed d", "1s member-join a b")
}

func TestLongWaveOfMemberEventsIsDeliveredInTime(t *testing.T) {
	got, _ := coalesced(t, func(add func(string, ...string)) {
		for i := range 8 {
			add("member-join", fmt.Sprint("n", i))
			time.Sleep(700 * time.Millisecond)
		}
	})
	wantDelivered(t, got, "3s member-join n0 n1 n2 n3 n4", "5.9s member-join n5 n6 n7")
}

func TestSameMemberEventTwiceIsNoNewsAndUpdatesAre(t *testing.T) {
	got, c := coalesced(t, func(add func(string, ...string)) {
		for _, kind := range []string{"member-join", "member-join", "member-update", "member-update", "member-failed", "member-reap"} {
			add(kind, "a")
			time.Sleep(10 * time.Second)
		}
	})
	wantDelivered(t, got, "1s member-join a", "21s member-update a", "31s member-update a", "41s member-failed a", "51s member-reap a")
	if len(c.last) != 0 {
		t.Errorf("of a member that was reaped %v is remembered", c.last)
	}
}
