package agent

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/secgossip/secgossip/handler"
)

// Whoever only looks must not hold up the end of every query.
func TestOnlyAStreamForQueriesMayAnswerOne(t *testing.T) {
	for _, test := range []struct {
		filters []string
		want    bool
	}{
		{nil, false},
		{[]string{"*"}, false},
		{[]string{"user:load", "member-join"}, false},
		{[]string{"query:other"}, false},
		{[]string{"query"}, true},
		{[]string{"user", "query:load"}, true},
	} {
		h := newHub()
		filters, err := parseFilters(test.filters)
		if err != nil {
			t.Fatal(err)
		}
		s, _ := h.subscribe(filters)
		if got := h.answers("load"); got != test.want {
			t.Errorf("filters %q: got %v, want %v", test.filters, got, test.want)
		}
		h.unsubscribe(s)
		if h.answers("load") {
			t.Errorf("filters %q: a stream that has ended may answer", test.filters)
		}
	}
}

func TestAQueryIDHasOneForm(t *testing.T) {
	good := strings.Repeat("0a", 16)
	if id, err := parseQueryID(good); err != nil || id[0] != 0x0a {
		t.Errorf("%q: got %x, %v", good, id, err)
	}
	for _, bad := range []string{"", good[2:], good + "0a", strings.Repeat("zz", 16), strings.Repeat("a", 1<<20)} {
		if _, err := parseQueryID(bad); err == nil || len(err.Error()) > 200 {
			t.Errorf("%.40q: got a refusal of %v", bad, err)
		}
	}
}

// Before the node has started there is nobody to bring an answer to.
func TestAnAnswerBeforeTheNodeHasStartedIsDropped(t *testing.T) {
	a := &answers{hub: newHub(), logger: slog.New(slog.DiscardHandler)}
	a.take(handler.Answer{QueryID: strings.Repeat("0a", 16), Found: true})
}
