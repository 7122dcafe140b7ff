package secgossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
	"github.com/secgossip/secgossip/internal/reply"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip/internal/guard"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// signQuery signs a query that is to be handed to a host.
func (c *client) signQuery(at *host, name string, change func(*rpcauth.QueryRequest)) []byte {
	c.c.t.Helper()
	req := rpcauth.QueryRequest{
		Cluster: c.c.root.Trust().Cluster(), Name: name, Timeout: at.node.QueryTimeout(), Ack: true, Origin: at.identity.Name,
	}
	if change != nil {
		change(&req)
	}
	raw, _, err := rpcauth.SignQuery(c.key, c.token, req, time.Now())
	if err != nil {
		c.c.t.Fatal(err)
	}
	return raw
}

// outcome is what became of a query, in words that can be compared.
type outcome struct {
	acks, answers, nothing, missing []string
	took                            time.Duration
}

func (o outcome) String() string {
	return fmt.Sprintf("acks %v, answers %v, nothing %v, missing %v", o.acks, o.answers, o.nothing, o.missing)
}

// ask asks a query at a host and waits for its end.
func (c *client) ask(at *host, name string, change func(*rpcauth.QueryRequest)) outcome {
	c.c.t.Helper()
	begin := time.Now()
	asked, err := at.node.Ask(c.signQuery(at, name, change), c.public())
	if err != nil {
		c.c.t.Fatal(err)
	}
	return collect(asked, begin)
}

func collect(asked *Asked, begin time.Time) outcome {
	var o outcome
	for {
		r, ok := asked.Next(context.Background())
		switch {
		case !ok:
			for _, list := range [][]string{o.acks, o.answers, o.nothing} {
				slices.Sort(list)
			}
			o.missing, o.took = asked.Missing(), time.Since(begin)
			return o
		case r.Ack:
			o.acks = append(o.acks, r.Node)
		case r.Answer:
			o.answers = append(o.answers, r.Node+":"+string(r.Payload))
		default:
			o.nothing = append(o.nothing, r.Node)
		}
	}
}

// inMind counts the queries that a host's node has heard and collects for.
func (h *host) inMind() (heard, asked int) {
	q := h.node.queries
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.heard), len(q.asked)
}

// answering makes hosts answer every query by what f returns; "" is no answer.
func answering(f func(h *host, q Query) string, hosts ...*host) {
	for _, h := range hosts {
		h.seen.answer = func(q Query) {
			if text := f(h, q); text != "" {
				h.node.Answer(q.ID, []byte(text))
			} else {
				h.node.NoAnswer(q.ID)
			}
		}
	}
}

func byName(h *host, q Query) string { return h.name + " says " + q.Name + " " + string(q.Payload) }

func TestEveryNodeAnswersAQuery(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		answering(byName, a, b, d)
		got := c.client("memo", "query:load").ask(b, "load", func(r *rpcauth.QueryRequest) { r.Payload = []byte("1m") })
		if want := "acks [a b d], answers [a:a says load 1m b:b says load 1m d:d says load 1m], nothing [], missing []"; got.String() != want {
			t.Errorf("got  %v\nwant %s", got, want)
		}
		// Serf waits for the whole timeout.
		if got.took >= b.node.QueryTimeout() {
			t.Errorf("it took %v although all had answered", got.took)
		}
		if q := d.seen.asked()[0]; q.Principal != "memo" || q.Origin != "b" {
			t.Errorf("d was told that %q asked at %q", q.Principal, q.Origin)
		}
	})
}

func TestWithoutAckNobodyAcknowledges(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		answering(byName, a, b, d)
		got := c.client("memo", "query:*").ask(a, "load", func(r *rpcauth.QueryRequest) { r.Ack = false })
		if len(got.acks) != 0 || len(got.answers) != 3 || len(got.missing) != 0 {
			t.Errorf("got %v", got)
		}
	})
}

func TestAQueryIsForThoseThatItsFiltersFit(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.host("a"), c.host("b"), c.host("d")
		a.start("role", "web", "zone", "eu-1")
		b.start("role", "web2").join(a)
		d.start("role", "web", "zone", "us-1").join(a)
		c.settle()
		answering(byName, a, b, d)
		client := c.client("memo", "query:*")
		for _, test := range []struct {
			change func(*rpcauth.QueryRequest)
			acks   string
		}{
			{func(r *rpcauth.QueryRequest) { r.Tags = []rpcauth.TagFilter{{Tag: "role", Expr: "web"}} }, "[a d]"},
			{func(r *rpcauth.QueryRequest) {
				r.Tags = []rpcauth.TagFilter{{Tag: "role", Expr: "web"}, {Tag: "zone", Expr: "eu.*"}}
			}, "[a]"},
			{func(r *rpcauth.QueryRequest) { r.Nodes = []string{"b", "d"} }, "[b d]"},
			{func(r *rpcauth.QueryRequest) {
				r.Nodes, r.Tags = []string{"b", "d"}, []rpcauth.TagFilter{{Tag: "role", Expr: "web"}}
			}, "[d]"},
			{func(r *rpcauth.QueryRequest) { r.Tags = []rpcauth.TagFilter{{Tag: "role", Expr: "db"}} }, "[]"},
		} {
			for _, h := range []*host{a, b, d} {
				h.seen.forget()
			}
			if got := client.ask(b, "load", test.change); fmt.Sprint(got.acks) != test.acks || len(got.missing) > 0 || len(got.answers) != len(got.acks) {
				t.Errorf("got %v, want the acks of %s", got, test.acks)
			}
			c.settle()
			var told []string
			for _, h := range []*host{a, b, d} {
				if len(h.seen.asked()) > 0 {
					told = append(told, h.name)
				}
			}
			if fmt.Sprint(told) != test.acks {
				t.Errorf("%v were told of it, want %s", told, test.acks)
			}
		}
	})
}

// A node that is not alive has no time to answer; who named it learns that.
func TestANodeThatWasNamedAndIsNotAliveIsMissing(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		answering(byName, a, b)
		d.crash()
		time.Sleep(time.Minute)
		got := c.client("memo", "query:*").ask(a, "load", func(r *rpcauth.QueryRequest) { r.Nodes = []string{"b", "d", "nobody"} })
		if want := "acks [b], answers [b:b says load ], nothing [], missing [d nobody]"; got.String() != want || got.took >= a.node.QueryTimeout() {
			t.Errorf("got %v after %v, want %s at once", got, got.took, want)
		}
	})
}

func TestWhoHasNoAnswerHoldsNobodyUp(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		answering(byName, a)
		answering(func(*host, Query) string { return "" }, b, d)
		got := c.client("memo", "query:*").ask(a, "load", nil)
		if want := "acks [a b d], answers [a:a says load ], nothing [b d], missing []"; got.String() != want || got.took >= a.node.QueryTimeout() {
			t.Errorf("got %v after %v, want %s at once", got, got.took, want)
		}
	})
}

func TestASilentNodeIsNamedAtTheDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		answering(byName, a, b)
		d.crash() // nobody knows yet
		got := c.client("memo", "query:*").ask(a, "load", nil)
		if want := "acks [a b], answers [a:a says load  b:b says load ], nothing [], missing [d]"; got.String() != want {
			t.Errorf("got  %v\nwant %s", got, want)
		}
		if timeout := a.node.QueryTimeout(); got.took != timeout {
			t.Errorf("it took %v, want %v", got.took, timeout)
		}
	})
}

func TestReachabilityNeedsNothingButAcks(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		got := c.client("memo", "query:_ping").ask(a, rpcauth.PingQuery, nil)
		if want := "acks [a b d], answers [], nothing [], missing []"; got.String() != want || got.took >= a.node.QueryTimeout() {
			t.Errorf("got %v after %v, want %s at once", got, got.took, want)
		}
		if n := len(a.seen.asked()) + len(b.seen.asked()) + len(d.seen.asked()); n != 0 {
			t.Errorf("handlers were told of %d queries that are none for them", n)
		}
	})
}

// The timeout is Serf's: 200 ms by 16 by the digits of the size.
func TestTheUsualTimeoutIsSerfs(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		if got, want := a.node.QueryTimeout(), 3200*time.Millisecond; got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestALongAnswerComesWhole(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		sizes := map[string]int{"a": 1 << 20, "b": 1 << 20, "d": 2000}
		answering(func(h *host, q Query) string { return strings.Repeat(h.name, sizes[h.name]) }, a, b, d)
		client := c.client("ops", "query:*")
		got := client.ask(a, "logs", nil)
		if len(got.answers) != 3 || len(got.missing) != 0 {
			t.Fatalf("%d answers, missing %v", len(got.answers), got.missing)
		}
		for _, answer := range got.answers {
			if name, text, _ := strings.Cut(answer, ":"); text != strings.Repeat(name, sizes[name]) {
				t.Errorf("%d bytes of %s are not its answer", len(text), name)
			}
		}
		if err := a.node.Answer(QueryID{}, make([]byte, 1<<20+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a longer one: got %v, want ErrTooLarge", err)
		}
		// What waits for clients is counted back when they have read it.
		a.node.queries.mu.Lock()
		defer a.node.queries.mu.Unlock()
		if a.node.queries.pending != 0 {
			t.Errorf("%d bytes wait, and everything was read", a.node.queries.pending)
		}
	})
}

// What waits for clients has a bound: an answer that does not fit comes again, until
// somebody has read.
func TestAnswersThatNobodyReadsHaveABound(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		answering(func(h *host, q Query) string { return strings.Repeat(h.name, 1<<20) }, a, b, d)
		client := c.client("ops", "query:*")
		a.node.queries.mu.Lock()
		a.node.queries.pending = maxPendingReplies - 1<<20
		a.node.queries.mu.Unlock()
		begin := time.Now()
		asked := must(a.node.Ask(client.signQuery(a, "logs", func(r *rpcauth.QueryRequest) { r.Timeout = time.Minute }), client.public()))(t)
		time.Sleep(5 * time.Second)
		a.node.queries.mu.Lock()
		if a.node.queries.pending > maxPendingReplies {
			t.Errorf("%d bytes wait, %d are the most", a.node.queries.pending, maxPendingReplies)
		}
		a.node.queries.pending -= maxPendingReplies - 1<<20 // somebody reads
		a.node.queries.mu.Unlock()
		if got := collect(asked, begin); len(got.answers) != 3 {
			t.Errorf("%d answers, missing %v", len(got.answers), got.missing)
		}
	})
}

func TestTwoQueriesAtOnceDoNotMix(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		answering(byName, a, b, d)
		one, two := c.client("memo", "query:*"), c.client("ops", "query:*")
		begin := time.Now()
		named := func(payload string) func(*rpcauth.QueryRequest) {
			return func(r *rpcauth.QueryRequest) { r.Payload = []byte(payload) }
		}
		first := must(a.node.Ask(one.signQuery(a, "load", named("1")), one.public()))(t)
		second := must(a.node.Ask(one.signQuery(a, "load", named("2")), one.public()))(t)
		third := must(b.node.Ask(two.signQuery(b, "load", named("3")), two.public()))(t)
		for number, asked := range map[string]*Asked{"1": first, "2": second, "3": third} {
			got := collect(asked, begin)
			want := fmt.Sprintf("[a:a says load %s b:b says load %s d:d says load %s]", number, number, number)
			if fmt.Sprint(got.answers) != want {
				t.Errorf("query %s: got %v, want %s", number, got.answers, want)
			}
		}
	})
}

func TestAQueryWhoseOriginDiesEndsByItsDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		client := c.client("memo", "query:*")
		if _, err := a.node.Ask(client.signQuery(a, "load", nil), client.public()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		a.crash()
		if len(b.seen.asked()) != 1 || len(d.seen.asked()) != 1 {
			t.Fatalf("b has heard %d queries and d %d, want one", len(b.seen.asked()), len(d.seen.asked()))
		}
		if err := b.node.Answer(b.seen.asked()[0].ID, []byte("too late")); err != nil {
			t.Errorf("b answers nobody: %v", err)
		}
		time.Sleep(5 * time.Second)
		for _, h := range []*host{b, d} {
			if n, _ := h.inMind(); n != 0 {
				t.Errorf("%s still has %d queries in mind", h.name, n)
			}
			if err := h.node.Answer(h.seen.asked()[0].ID, nil); !errors.Is(err, ErrNoQuery) {
				t.Errorf("%s answers after the deadline: got %v, want ErrNoQuery", h.name, err)
			}
		}
	})
}

func TestTheFirstAnswerCounts(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		answering(byName, a)
		// The query is open yet when d has said all that it says.
		b.seen.answer = func(q Query) {
			time.AfterFunc(time.Second, func() { b.node.Answer(q.ID, []byte(byName(b, q))) })
		}
		d.seen.answer = func(q Query) {
			if err := d.node.Answer(q.ID, []byte("first")); err != nil {
				t.Errorf("the first: %v", err)
			}
			for _, again := range []error{d.node.Answer(q.ID, []byte("second")), d.node.NoAnswer(q.ID)} {
				if !errors.Is(again, ErrNoQuery) {
					t.Errorf("another one: got %v, want ErrNoQuery", again)
				}
			}
			// A node that was broken into signs both.
			d.node.queries.mu.Lock()
			h := d.node.queries.heard[q.ID]
			d.node.queries.mu.Unlock()
			d.node.reply(h, reply.Answer, []byte("second"))
			d.node.reply(h, reply.Nothing, nil)
		}
		got := c.client("memo", "query:*").ask(a, "load", nil)
		if want := "acks [a b d], answers [a:a says load  b:b says load  d:first], nothing [], missing []"; got.String() != want {
			t.Errorf("got  %v\nwant %s", got, want)
		}
	})
}

func TestAReplyAfterTheDeadlineIsCountedAsLate(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		answering(byName, a, b)
		d.seen.answer = func(q Query) {
			c.net.Delay(100*time.Millisecond, 100*time.Millisecond)
			time.AfterFunc(time.Until(q.Deadline)-10*time.Millisecond, func() { d.node.Answer(q.ID, []byte("late")) })
		}
		got := c.client("memo", "query:*").ask(a, "load", nil)
		if len(got.answers) != 2 || len(got.missing) != 0 { // its ack was in time
			t.Errorf("got %v", got)
		}
		c.settle()
		if late := a.node.counts.repliesLate.Load(); late != 1 {
			t.Errorf("%d replies were late, want 1", late)
		}
	})
}

// Threat K03, C04: a member that was broken into puts queries into gossip itself. No
// other node runs anything for them.
func TestMemberCannotMakeOthersAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		limited := c.client("memo", "query:mem*")
		foreign := newCluster(t, "demo")
		defer foreign.net.Close()
		genuine := limited.signQuery(a, "memresponse", nil)
		altered := bytes.Clone(genuine)
		altered[len(altered)-80] ^= 1
		signed := func(key *client, label string) []byte {
			message := must(cose.Parse(genuine))(t)
			return must(cose.Sign(key.key, cose.Context(label, c.root.Trust().Cluster()), message.Payload))(t)
		}
		for name, raw := range map[string][]byte{
			"outside the grant":           limited.signQuery(a, "deploy", nil),
			"one bit altered":             altered,
			"client of another cluster":   foreignQuery(foreign),
			"token of another client":     signed(c.client("thief", "members:read"), "secgossip/1 query"),
			"an event's signature":        signed(limited, "secgossip/1 event"),
			"an event":                    c.client("memo", "admin").sign("memresponse", "x"),
			"not a query":                 []byte("memresponse"),
			"a query with a byte after":   append(bytes.Clone(genuine), 0),
			"a query without its end":     genuine[:len(genuine)-1],
			"a ping outside of the grant": limited.signQuery(a, rpcauth.PingQuery, nil),
		} {
			before := b.node.counts.queriesRefused.Load()
			a.node.queryGossip.spread(raw)
			c.settle()
			for _, h := range []*host{b, d} {
				if len(h.seen.asked()) > 0 || len(h.seen.names()) > 0 {
					t.Errorf("%s: %s was told of it", name, h.name)
				}
			}
			if b.node.counts.queriesRefused.Load() == before {
				t.Errorf("%s: b did not count a refusal", name)
			}
		}
	})
}

func foreignQuery(c *cluster) []byte {
	client := c.client("memo", "query:*")
	raw, _, err := rpcauth.SignQuery(client.key, client.token, rpcauth.QueryRequest{
		Cluster: c.root.Trust().Cluster(), Name: "memresponse", Timeout: time.Second, Origin: "a",
	}, time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	return raw
}

// Threat C05: an insider sends a genuine query again and again: at once, after its
// deadline, and after the receiver was restarted.
func TestGenuineQueryIsAnsweredOnceForEver(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		raw := c.client("memo", "query:*").signQuery(a, "load", nil)
		again := func() {
			for range 20 {
				a.node.queryGossip.spread(raw)
			}
			c.settle()
		}
		again()
		again()
		time.Sleep(10 * time.Second) // its deadline is over, and the query is good yet for clocks that are behind
		again()
		b.crash()
		b.start().join(a)
		c.settle()
		again()
		time.Sleep(5 * time.Minute)
		again()
		if n := len(b.seen.asked()); n != 1 {
			t.Errorf("b was told %d times, want once", n)
		}
	})
}

// Threat C05: a member withholds a query until its time is over.
func TestAWithheldQueryIsWorthNothingAfterItsTime(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		raw := c.client("memo", "query:*").signQuery(a, "load", nil)
		time.Sleep(a.node.QueryTimeout() + pki.Tolerance)
		a.node.queryGossip.spread(raw)
		c.settle()
		if n := len(b.seen.asked()) + len(d.seen.asked()); n != 0 {
			t.Errorf("it was delivered %d times", n)
		}
		client := c.client("memo", "query:*")
		if _, err := a.node.Ask(raw, client.public()); !errors.Is(err, rpcauth.ErrExpired) {
			t.Errorf("handed in: got %v, want ErrExpired", err)
		}
	})
}

// Threat K03: a member that was broken into cannot say what another says, not by
// packet, by relay or by stream, and cannot reply to what nobody asked of it.
func TestNobodyCanReplyForAnother(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		answering(byName, a, b)
		client := c.client("memo", "query:*")
		begin := time.Now()
		asked := must(a.node.Ask(client.signQuery(a, "load", func(r *rpcauth.QueryRequest) { r.Nodes, r.Relay = []string{"d"}, 1 }), client.public()))(t)
		time.Sleep(200 * time.Millisecond)
		sign := func(key *host, query QueryID, node string, label bool) []byte {
			cluster := c.root.Trust().Cluster()
			if label {
				cluster[0] ^= 1
			}
			return must(reply.Sign(key.identity.Signing, cluster, reply.Reply{Query: query, Node: node, Kind: reply.Answer, Payload: []byte("lie")}))(t)
		}
		id := asked.Query.ID
		for name, raw := range map[string][]byte{
			"d's answer, signed by b":      sign(b, id, "d", false),
			"b's own, who was not asked":   sign(b, id, "b", false),
			"a node nobody knows":          sign(b, id, "x", false),
			"to a query that nobody asked": sign(d, QueryID{1}, "d", false),
			"d's, for another cluster":     sign(d, id, "d", true),
			"no reply":                     []byte("x"),
		} {
			before := a.node.counts.repliesRefused.Load()
			payload := must(wire.BatchReplies.Append(nil, [][]byte{raw}))(t)
			if err := b.node.transport.Send(b.peer(a), wire.PacketReplies, payload); err != nil {
				t.Fatal(err)
			}
			if err := b.node.transport.SendReply(t.Context(), b.peer(a), raw); err == nil {
				t.Errorf("%s: taken by stream", name)
			}
			time.Sleep(20 * time.Millisecond)
			if got := a.node.counts.repliesRefused.Load() - before; got != 2 {
				t.Errorf("%s: refused %d times, want by packet and by stream", name, got)
			}
		}
		d.node.Answer(id, []byte("truth"))
		if got := collect(asked, begin); fmt.Sprint(got.answers) != "[d:truth]" {
			t.Errorf("got %v", got)
		}
	})
}

func (h *host) peer(of *host) *guard.Peer { return h.node.roster.Get(of.identity.Name) }

// Threat C08: nobody can have a node send what they want to whom they want.
func TestAReplyIsPassedOnOnceAndToItsOriginOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		client := c.client("memo", "query:*")
		relayed := must(a.node.Ask(client.signQuery(a, "load", func(r *rpcauth.QueryRequest) { r.Nodes, r.Relay = []string{"d"}, 1 }), client.public()))(t)
		direct := must(a.node.Ask(client.signQuery(a, "load", func(r *rpcauth.QueryRequest) { r.Nodes = []string{"b", "d"} }), client.public()))(t)
		time.Sleep(200 * time.Millisecond)
		sign := func(key *host, query QueryID, kind reply.Kind) []byte {
			return must(reply.Sign(key.identity.Signing, c.root.Trust().Cluster(), reply.Reply{Query: query, Node: "d", Kind: kind}))(t)
		}
		before := b.node.counts.repliesRelayed.Load() // d's ack went this way
		if before != 1 {
			t.Errorf("b has passed on %d acks of d, want 1", before)
		}
		for name, raw := range map[string][]byte{
			"a query that does not ask for it": sign(d, direct.Query.ID, reply.Nothing),
			"a query that nobody asked":        sign(d, QueryID{1}, reply.Nothing),
			"the ack once more":                sign(d, relayed.Query.ID, reply.Ack),
			"a forged one":                     sign(b, relayed.Query.ID, reply.Nothing),
			"not a reply":                      []byte("x"),
		} {
			b.node.passOnReply(b.peer(d), raw)
			if got := b.node.counts.repliesRelayed.Load(); got != before {
				t.Errorf("%s: passed on", name)
			}
		}
		genuine := sign(d, relayed.Query.ID, reply.Nothing)
		b.node.passOnReply(b.peer(a), genuine)
		b.node.passOnReply(b.peer(a), sign(a, relayed.Query.ID, reply.Nothing))
		if got := b.node.counts.repliesRelayed.Load(); got != before {
			t.Error("handed in by another than who it is of: passed on")
		}
		b.node.passOnReply(b.peer(d), genuine)
		b.node.passOnReply(b.peer(d), genuine)
		if got := b.node.counts.repliesRelayed.Load(); got != before+1 {
			t.Errorf("the genuine one was passed on %d times, want once", got-before)
		}
		if got := collect(relayed, time.Now()); fmt.Sprint(got.nothing) != "[d]" {
			t.Errorf("the origin has %v", got)
		}
		time.Sleep(5 * time.Second)
		b.node.passOnReply(b.peer(d), sign(d, relayed.Query.ID, reply.Answer))
		if got := b.node.counts.repliesRelayed.Load(); got != before+1 {
			t.Error("after the deadline: passed on")
		}
	})
}

func TestAskRefusesWhatIsNotForThisNodeFromThisClient(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		client, other := c.client("memo", "query:*"), c.client("other", "query:*")
		raw := client.signQuery(a, "load", nil)
		if _, err := a.node.Ask(raw, other.public()); !errors.Is(err, ErrNotYours) || strings.Contains(err.Error(), "event") {
			t.Errorf("another client's: got %v, want ErrNotYours", err)
		}
		if _, err := b.node.Ask(raw, client.public()); !errors.Is(err, ErrOrigin) {
			t.Errorf("another node's: got %v, want ErrOrigin", err)
		}
		if _, err := a.node.Ask(raw, client.public()); err != nil {
			t.Errorf("its own: %v", err)
		}
		if _, err := a.node.Ask(raw, client.public()); !errors.Is(err, ErrDuplicate) {
			t.Errorf("again: got %v, want ErrDuplicate", err)
		}
	})
}

// Threat C10: queries that nobody can take in at once wait in a bounded queue, and a
// node collects for so many clients and no more.
func TestQueriesHaveBounds(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a := c.host("a").start()
		junk := make([][]byte, wire.MaxPacketItems)
		for i := range junk {
			junk[i] = []byte{byte(i)}
		}
		for range 2 * incomingReplies / len(junk) {
			a.node.receiveQueries(nil, wire.PacketQueries, junk)
		}
		if waiting := len(a.node.queriesIn); waiting > incomingReplies || a.node.counts.queriesOverflow.Load() == 0 {
			t.Errorf("%d wait, %d were dropped", waiting, a.node.counts.queriesOverflow.Load())
		}
		client := c.client("memo", "query:*")
		var last error
		for range maxAsked + 1 {
			_, last = a.node.Ask(client.signQuery(a, "load", nil), client.public())
		}
		if !errors.Is(last, ErrBusy) {
			t.Errorf("one more than %d: got %v, want ErrBusy", maxAsked, last)
		}
		time.Sleep(time.Minute)
		if heard, asked := a.inMind(); heard+asked != 0 {
			t.Errorf("%d and %d are in mind a minute later", heard, asked)
		}
	})
}

// An origin that has died confirms nothing: it is tried less and less, and others are
// not asked again and again to pass it on.
func TestAReplyThatNobodyConfirmsIsSentLessAndLess(t *testing.T) {
	q, begin := newQueries(), time.Now()
	h := &heardQuery{query: Query{Relay: 255}, out: []*outgoing{{kind: reply.Ack, wait: replyAgain}}}
	var at []string
	for now := begin; now.Before(begin.Add(20 * time.Second)); now = now.Add(queryTick) {
		for _, due := range q.due(h, now) {
			at = append(at, fmt.Sprint(now.Sub(begin), " ", due.relay))
		}
	}
	want := []string{"0s 255", "500ms 255", "1.2s 0", "2s 0", "3s 0", "4.3s 0", "5.9s 0", "7.9s 0", "10.3s 0", "13.3s 0", "17.1s 0"}
	if !slices.Equal(at, want) {
		t.Errorf("sent at %q, want %q", at, want)
	}
}
