package epochs

import (
	"context"
	"fmt"
	"sync"
	"time"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/lab"
	"github.com/secgossip/secgossip/internal/rpc"
	"github.com/secgossip/secgossip/rpcauth"
)

// listener counts the events that reach one agent's clients.
type listener struct {
	node   *lab.Node
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	heard   map[string]int // by event id
	dropped uint64         // not read in time, which is this test's fault
	ended   error
}

// listen opens a stream of events at an agent, and returns once it is open.
func (c *cluster) listen(n *lab.Node) *listener {
	c.Helper()
	ctx, cancel := context.WithCancel(c.Context())
	l := &listener{node: n, cancel: cancel, done: make(chan struct{}), heard: make(map[string]int)}
	client := c.client(n)
	stream, err := client.StreamEvents(ctx, &secgossipv1.StreamEventsRequest{Filters: []string{"user:" + eventName}})
	if err == nil {
		_, err = stream.Receive() // the first says that it is open
	}
	if err != nil {
		cancel()
		c.Fatalf("listening at %s: %v", n.Name, err)
	}
	go func() {
		defer close(l.done)
		defer client.Close()
		for {
			batch, err := stream.Receive()
			l.mu.Lock()
			if err != nil {
				l.ended = err
				l.mu.Unlock()
				return
			}
			l.dropped += batch.GetDropped()
			for _, record := range batch.GetRecords() {
				l.heard[record.GetUser().GetEventId()]++
			}
			l.mu.Unlock()
		}
	}()
	c.Cleanup(l.end)
	return l
}

// end ends the stream, once or more often.
func (l *listener) end() {
	l.cancel()
	<-l.done
}

// check says how what was heard differs from what was fired.
func (l *listener) check(fired []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost, doubled := 0, 0
	for _, id := range fired {
		switch l.heard[id] {
		case 0:
			lost++
		case 1:
		default:
			doubled++
		}
	}
	switch {
	case l.dropped > 0:
		return lab.Finally(fmt.Errorf("%d events at %s were not read in time", l.dropped, l.node.Name))
	case doubled > 0:
		return lab.Finally(fmt.Errorf("%d of %d events came more than once at %s", doubled, len(fired), l.node.Name))
	case lost > 0:
		return fmt.Errorf("%d of %d events have not come at %s (stream: %v)", lost, len(fired), l.node.Name, l.ended)
	}
	return nil
}

const eventName = "story"

// marksman fires events at one agent.
type marksman struct {
	*cluster
	client *rpc.Client
	token  []byte
}

func (c *cluster) marksman(at *lab.Node) *marksman {
	c.Helper()
	token, err := rpcauth.ParseTokenText(c.operator.Token)
	c.must(err)
	client := c.client(at)
	c.Cleanup(client.Close)
	return &marksman{c, client, token}
}

// fire fires one event and returns its id.
func (m *marksman) fire(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now := time.Now()
	event, err := rpcauth.SignEvent(m.operator.Key, m.token, rpcauth.EventRequest{
		Cluster: m.operator.Trust.Cluster(), Name: eventName, LTime: uint64(now.UnixMilli()), Payload: []byte("a payload of some size"),
	}, now)
	if err != nil {
		return "", err
	}
	answer, err := m.client.FireEvent(ctx, &secgossipv1.FireEventRequest{Event: event})
	return answer.GetEventId(), err
}
