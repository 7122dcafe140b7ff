package secgossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/coordinate"
)

// Coordinate is where a node is in a space in which the distance between two is
// about the time of a round trip between them (Vivaldi, as in Serf). All values
// are in seconds, but Error, which has no unit.
type Coordinate = coordinate.Coordinate

// coordinates is this node's coordinate and what others say theirs is. Each
// acknowledgement of a probe carries one.
//
// Threat C18: whoever answers a probe may claim to be anywhere, and may answer
// late. What it claims tells others only about itself; and one answer moves us by
// half of the time it took at most, whatever is in it.
type coordinates struct {
	client *coordinate.Client
	bad    atomic.Uint64 // claims that no node of ours makes
	held   atomic.Uint64 // answers that would have moved us further than they may

	mu     sync.Mutex
	claims map[string]*Coordinate // of members that are alive
}

func newCoordinates() *coordinates {
	config := coordinate.DefaultConfig()
	// Serf adds to each distance by how much the latest ones were wrong. One liar
	// makes that seconds.
	config.AdjustmentWindowSize = 0
	client, err := coordinate.NewClient(config)
	if err != nil {
		panic("internal error: " + err.Error()) // its own defaults
	}
	return &coordinates{client: client, claims: make(map[string]*Coordinate)}
}

// A coordinate in an acknowledgement is its version and ten 64-bit floats,
// big-endian: the eight dimensions, error, height.
const (
	coordinateVersion    = 1
	coordinateDimensions = 8
	coordinateSize       = 1 + 8*(coordinateDimensions+2)
)

// The ends of what is believed. No round trip takes as long as maxCoordinate, in
// seconds: it is not measured any more.
const (
	maxCoordinate      = 10
	maxCoordinateError = 1.5 // what a node begins with
)

func appendCoordinate(b []byte, c *Coordinate) []byte {
	b = append(b, coordinateVersion)
	for _, value := range append(append([]float64(nil), c.Vec...), c.Error, c.Height) {
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(value))
	}
	return b
}

// parseCoordinate takes what a node of ours might say, and nothing else.
func parseCoordinate(b []byte) (*Coordinate, bool) {
	if len(b) != coordinateSize || b[0] != coordinateVersion {
		return nil, false
	}
	var values [coordinateDimensions + 2]float64
	for i := range values {
		values[i] = math.Float64frombits(binary.BigEndian.Uint64(b[1+8*i:]))
		if !(math.Abs(values[i]) <= maxCoordinate) { // NaN is not
			return nil, false
		}
	}
	c := &Coordinate{
		Vec:    values[:coordinateDimensions],
		Error:  values[coordinateDimensions],
		Height: values[coordinateDimensions+1],
	}
	return c, c.Error >= 0 && c.Error <= maxCoordinateError && c.Height >= 0
}

// learn takes in what a member said with an answer that took rtt.
func (c *coordinates) learn(name string, payload []byte, rtt time.Duration) {
	claim, ok := parseCoordinate(payload)
	if !ok {
		c.bad.Add(1)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims[name] = claim
	before := c.client.GetCoordinate()
	after, err := c.client.Update(name, claim, rtt)
	if err != nil {
		c.bad.Add(1)
		return
	}
	moved, most := apart(before, after)+math.Abs(after.Height-before.Height), rtt.Seconds()/2
	if moved <= most {
		return
	}
	c.held.Add(1)
	for i := range after.Vec {
		after.Vec[i] = before.Vec[i] + (after.Vec[i]-before.Vec[i])*most/moved
	}
	after.Height = before.Height + (after.Height-before.Height)*most/moved
	_ = c.client.SetCoordinate(after) // It lies between two that are valid.
}

// apart is the distance without heights, in seconds.
func apart(a, b *Coordinate) float64 {
	var sum float64
	for i := range a.Vec {
		sum += (a.Vec[i] - b.Vec[i]) * (a.Vec[i] - b.Vec[i])
	}
	return math.Sqrt(sum)
}

func (c *coordinates) claimOf(name string) *Coordinate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.claims[name]
}

func (c *coordinates) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.claims, name)
	c.client.ForgetNode(name)
}

// ErrNoCoordinate says that a member has not answered a probe of ours yet.
var ErrNoCoordinate = errors.New("no coordinate is known")

// Coordinate returns where a member is, by what it says itself. Errors: ErrNoCoordinate,
// ErrUnknownMember.
func (n *Node) Coordinate(name string) (*Coordinate, error) {
	if name == string(n.config.Identity.Name) {
		return n.coordinates.client.GetCoordinate(), nil
	}
	if c := n.coordinates.claimOf(name); c != nil {
		return c, nil
	}
	if status, _ := n.members.get(name); status == "" {
		return nil, fmt.Errorf("%w: %.64q", ErrUnknownMember, name)
	}
	return nil, fmt.Errorf("node %q: %w: it has not answered a probe of this agent yet", name, ErrNoCoordinate)
}

// The rest is memberlist's PingDelegate.

// AckPayload implements memberlist.PingDelegate.
func (n *Node) AckPayload() []byte {
	return appendCoordinate(nil, n.coordinates.client.GetCoordinate())
}

// NotifyPingComplete implements memberlist.PingDelegate.
func (n *Node) NotifyPingComplete(m *memberlist.Node, rtt time.Duration, payload []byte) {
	if status, _ := n.members.get(m.Name); status == StatusAlive {
		n.coordinates.learn(m.Name, payload, rtt)
	}
}

var _ memberlist.PingDelegate = (*Node)(nil)
