package secgossip

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip/internal/wire"
)

// fireLarge hands an event to a host's node, with its payload beside it.
func (c *client) fireLarge(at *host, name string, payload []byte, nodes ...string) error {
	_, err := at.node.FireLarge(c.sign(name, string(payload), nodes...), payload, c.public())
	return err
}

// sums names events with the beginning of the SHA-256 of long payloads.
func (r *recorder) sums() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.events {
		out = append(out, sumOf(e.Name, e.Payload))
	}
	return out
}

func sumOf(name string, payload []byte) string {
	if len(payload) <= rpcauth.MaxEventPayload {
		return name + ":" + string(payload)
	}
	return fmt.Sprintf("%s:%d:%.4x", name, len(payload), sha256.Sum256(payload))
}

func wantSums(t *testing.T, want []string, hosts ...*host) {
	t.Helper()
	for _, h := range hosts {
		if got := h.seen.sums(); !slices.Equal(got, want) {
			t.Errorf("%s got %q, want %q", h.name, got, want)
		}
	}
}

func TestLargePayloadReachesEveryNodeOnceAndInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		client := c.client("memo", "event:*")
		large := bytes.Repeat([]byte("payload."), wire.MaxLargePayload/8)
		if err := client.fire(a, "before", "1"); err != nil {
			t.Fatal(err)
		}
		if err := client.fireLarge(a, "deploy", large); err != nil {
			t.Fatal(err)
		}
		if err := client.fire(a, "after", "2"); err != nil {
			t.Fatal(err)
		}
		if err := client.fireLarge(b, "small", large[:rpcauth.MaxEventPayload+1], "d"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		want := []string{"before:1", sumOf("deploy", large), "after:2"}
		wantSums(t, want, a, b)
		got := d.seen.sums()
		if i := slices.Index(got, sumOf("small", large[:513])); i < 0 || !slices.Equal(slices.Delete(got, i, i+1), want) {
			t.Errorf("d got %q, want %q and another", d.seen.sums(), want)
		}
		if n := a.node.counts.payloadsPulled.Load(); n != 0 {
			t.Errorf("a pulled %d payloads that are not for it", n)
		}
	})
}

func TestLargePayloadReachesTwelveNodesThroughLoss(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.net.Loss(0.1)
		c.net.Delay(5*time.Millisecond, 50*time.Millisecond)
		first := c.host("n0").start()
		for i := 1; i < 12; i++ {
			c.host(fmt.Sprintf("n%d", i)).start().join(first)
		}
		time.Sleep(30 * time.Second)
		large := aPayload(1, 100_000)
		if err := c.client("memo", "event:*").fireLarge(first, "deploy", large); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		for _, h := range c.hosts {
			wantSums(t, []string{sumOf("deploy", large)}, h)
		}
	})
}

// The origin is gone meanwhile: whoever has the payload gives it, also after its own
// restart.
func TestLargePayloadMissedWhileDownComesOnceFromWhoeverKeptIt(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		e := c.host("e").start().join(a)
		c.settle()
		b.crash()
		large := aPayload(1, 300_000)
		if err := c.client("memo", "event:*").fireLarge(a, "deploy", large); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		d.crash()
		d.start().join(e)
		time.Sleep(10 * time.Second) // it has heard of the event again
		a.crash()
		e.node.payloads.mu.Lock()
		for _, h := range e.node.payloads.held { // and e has lost what it kept
			if err := os.Remove(e.node.payloads.path(h)); err != nil {
				t.Error(err)
			}
		}
		e.node.payloads.mu.Unlock()
		b.start().join(d)
		time.Sleep(20 * time.Second)
		b.crash()
		b.start().join(d)
		time.Sleep(20 * time.Second)
		wantSums(t, []string{sumOf("deploy", large)}, b, d, e)
	})
}

// Threat C06: a payload that nobody gives holds up the events behind it for a while, and
// is delivered when it comes after all.
func TestPayloadThatDoesNotComeHoldsUpTheOthersBriefly(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		client := c.client("memo", "event:*")
		large := aPayload(1, 1000)
		a.spread(client.sign("one", "1"))
		a.spread(client.sign("large", string(large)))
		a.spread(client.sign("two", "2"))
		time.Sleep(payloadOrderWait - 2*time.Second)
		wantSums(t, []string{"one:1"}, b)
		time.Sleep(4 * time.Second)
		wantSums(t, []string{"one:1", "two:2"}, b)
		a.spread(client.sign("three", "3"))
		time.Sleep(time.Second) // they wait no more
		wantSums(t, []string{"one:1", "two:2", "three:3"}, b)
		a.node.payloads.mustPut(t, large, time.Now().Add(time.Hour), time.Now())
		time.Sleep(2 * pullAgainMax)
		wantSums(t, []string{"one:1", "two:2", "three:3", sumOf("large", large)}, b)
	})
}

// Threat C04: a member gives another payload than its client has signed.
func TestPayloadThatItsClientDidNotSignIsNotDelivered(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		large := aPayload(1, 1000)
		digest := sha256.Sum256(large)
		for _, lie := range [][]byte{aPayload(2, 1000), large[:999], append(bytes.Clone(large), 0)} {
			a.node.payloads.mu.Lock()
			a.node.payloads.held[digest] = &heldPayload{digest: digest, size: 1000, expires: time.Now().Add(time.Hour), content: lie}
			a.node.payloads.mu.Unlock()
			a.spread(c.client("memo", "event:*").sign("deploy", string(large)))
			time.Sleep(10 * time.Second)
		}
		wantSums(t, nil, b, d)
		if b.node.payloads.has(digest, 1000) {
			t.Error("b keeps what nobody signed")
		}
	})
}

// Threat C10: nothing is pulled for what is not authentic, was seen before or is for
// others, and no more is wanted at once than there is room for.
func TestNothingIsPulledForWhatIsNotToBeDelivered(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		c.host("e").start().join(a)
		c.settle()
		client := c.client("memo", "event:mem*")
		large := string(aPayload(1, 1000))
		altered := client.sign("memo", large)
		altered[len(altered)-80] ^= 1
		for _, raw := range [][]byte{altered, client.sign("deploy", large), client.sign("memo", large, "a")} {
			b.node.takeEvent(incoming{raw: a.mark(1, raw)})
			if b.node.pulls.some() {
				t.Error("it is to be pulled")
			}
		}
		refused := 0
		for i := range uint32(maxPulls + 10) {
			if !b.node.takeEvent(incoming{raw: a.mark(10+i, client.sign("memo", string(aPayload(int(i), 600))))}) {
				refused++
			}
		}
		b.node.pulls.mu.Lock()
		if n := len(b.node.pulls.wanted); n > maxPulls || refused == 0 {
			t.Errorf("%d are wanted and %d refused", n, refused)
		}
		b.node.pulls.mu.Unlock()
		c.net.Delay(100*time.Millisecond, 100*time.Millisecond)
		most, mostOfA := 0, 0
		for range 200 {
			time.Sleep(20 * time.Millisecond)
			b.node.pulls.mu.Lock()
			most, mostOfA = max(most, b.node.pulls.running), max(mostOfA, b.node.pulls.from["a"])
			b.node.pulls.mu.Unlock()
		}
		if most != maxPulling || mostOfA != pullsPerMember {
			t.Errorf("%d are under way at once, %d from a; want %d and %d", most, mostOfA, maxPulling, pullsPerMember)
		}
	})
}

// An origin whose streams are slow is waited for a moment, and then others are asked.
func TestOthersAreAskedWhenTheOriginIsSlowOrAway(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		now := time.Now()
		w := &pull{event: Event{Origin: "a"}, next: now}
		asked := func(h *host, after time.Duration) string {
			from, soon := h.node.whoMayHave(w, now.Add(after))
			if from == nil {
				return fmt.Sprint(soon)
			}
			return string(from.Name)
		}
		if got := asked(b, 0); got != "a" {
			t.Errorf("at first %s is asked, want a", got)
		}
		w.tries = 1
		if got := asked(b, 0); got != "a" && got != "d" {
			t.Errorf("then %s is asked, want any", got)
		}
		w.tries = 2
		b.node.pulls.mu.Lock()
		b.node.pulls.from["a"] = pullsPerMember
		b.node.pulls.mu.Unlock()
		if got, later := asked(b, pullPatience-1), asked(b, pullPatience); got != "true" || later != "d" {
			t.Errorf("when a has enough to do: %s, and later %s is asked; want to wait, and d", got, later)
		}
		a.crash()
		time.Sleep(time.Minute)
		if got := asked(d, 0); got != "b" {
			t.Errorf("when a is away %s is asked, want b", got)
		}
	})
}

func TestPayloadThatNobodyGaveIsNamedWhenItsEventExpires(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		log := new(logBuffer)
		a, b := c.host("a"), c.host("b")
		b.settings = func(config *Config) { config.Logger = slog.New(slog.NewTextHandler(log, nil)) }
		a.start()
		b.start().join(a)
		a.spread(c.client("memo", "event:*").sign("deploy", string(aPayload(1, 1000))))
		time.Sleep(rpcauth.DefaultEventLife + time.Minute)
		if got := lines(log, "nobody gave the payload of an event", "event=deploy", "node=a"); len(got) != 1 || b.node.counts.payloadsMissing.Load() != 1 {
			t.Errorf("b said so %d times, want once", len(got))
		}
		b.node.store.mu.Lock()
		defer b.node.store.mu.Unlock()
		for _, o := range b.node.store.origins {
			if len(o.waiting) > 0 || b.node.pulls.some() {
				t.Error("b still waits for it")
			}
		}
		if p := b.node.pulls; len(p.clients.has)+len(p.of)+len(p.from) != 0 {
			t.Errorf("%v, %v and %v are counted, and nothing is wanted", p.clients.has, p.of, p.from)
		}
	})
}

func TestPayloadMustBeTheOneThatTheEventAnnounces(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		client := c.client("memo", "event:*")
		large := aPayload(1, 1000)
		raw := client.sign("deploy", string(large))
		for what, payload := range map[string][]byte{"none": nil, "another": aPayload(2, 1000), "less": large[:999]} {
			if _, err := a.node.FireLarge(raw, payload, client.public()); !errors.Is(err, ErrPayload) {
				t.Errorf("%s: got %v, want ErrPayload", what, err)
			}
		}
		if _, err := a.node.FireLarge(client.sign("deploy", "v1"), large, client.public()); !errors.Is(err, ErrPayload) {
			t.Errorf("beside a whole event: got %v, want ErrPayload", err)
		}
		if _, err := a.node.FireLarge(raw, large, client.public()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		for _, h := range []*host{a, b} {
			if _, err := h.node.FireLarge(raw, large, client.public()); !errors.Is(err, ErrDuplicate) {
				t.Errorf("%s: got %v, want ErrDuplicate", h.name, err)
			}
		}
		if _, err := rpcauth.SignEvent(client.key, client.token, rpcauth.EventRequest{
			Cluster: c.root.Trust().Cluster(), Name: "deploy", Payload: make([]byte, rpcauth.MaxLargePayload+1),
		}, time.Now()); err == nil || !strings.Contains(err.Error(), "1048576, 1 MiB, is the most") {
			t.Errorf("a byte more than 1 MiB: got %v, want the limit", err)
		}
	})
}

func TestClientHearsThatLargeEventsComeTooFast(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, _ := c.three()
		const most = 16
		a.node.payloads.most = most
		memo, other := c.client("memo", "event:*"), c.client("other", "event:*")
		var want []string
		for _, by := range []*client{memo, other} {
			for i := 0; i <= most; i++ {
				payload := aPayload(len(want), 600)
				err := by.fireLarge(a, "deploy", payload)
				if errors.Is(err, ErrBusy) {
					break
				} else if err != nil {
					t.Fatalf("event %d: %v", len(want), err)
				}
				want = append(want, sumOf("deploy", payload))
			}
		}
		if len(want) != most {
			t.Errorf("%d were taken of two clients, want %d", len(want), most)
		}
		time.Sleep(payloadAge)
		if err := memo.fireLarge(a, "deploy", aPayload(1000, 600)); err != nil {
			t.Errorf("after a minute: %v", err)
		}
		time.Sleep(10 * time.Second)
		wantSums(t, append(want, sumOf("deploy", aPayload(1000, 600))), a, b)
	})
}

// Every node looks at its own tags, as they are when the event comes. The others pass it
// on and know it again.
func TestEventIsForThoseThatItsFiltersFit(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.host("a"), c.host("b"), c.host("d")
		a.start("role", "db")
		b.start("role", "web").join(a)
		d.start("role", "web-old").join(a)
		c.settle()
		client := c.client("memo", "event:*")
		fire := func(name string, payload []byte, tags ...rpcauth.TagFilter) {
			t.Helper()
			raw := must(rpcauth.SignEvent(client.key, client.token, rpcauth.EventRequest{
				Cluster: c.root.Trust().Cluster(), Name: name, Payload: payload, Tags: tags,
			}, time.Now()))(t)
			var beside []byte
			if len(payload) > rpcauth.MaxEventPayload {
				beside = payload
			}
			if _, err := a.node.FireLarge(raw, beside, client.public()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
			for _, h := range []*host{a, b, d} {
				if event := must(h.node.config.Verifier.VerifyEvent(raw, time.Now()))(t); !h.node.journal.has(event.key()) {
					t.Errorf("%s does not know %s again", h.name, name)
				}
			}
		}
		web := rpcauth.TagFilter{Tag: "role", Expr: "web"}
		large := aPayload(1, 700)
		fire("one", []byte("1"), web)
		fire("two", large, web)
		fire("three", []byte("3"), rpcauth.TagFilter{Tag: "role", Expr: "web.*"}, rpcauth.TagFilter{Tag: "zone", Expr: ""})
		if _, err := d.node.UpdateTags(map[string]string{"role": "web"}, nil); err != nil {
			t.Fatal(err)
		}
		fire("four", large, web)
		wantSums(t, nil, a)
		wantSums(t, []string{"one:1", sumOf("two", large), "three:3", sumOf("four", large)}, b)
		wantSums(t, []string{"three:3", sumOf("four", large)}, d)
	})
}
