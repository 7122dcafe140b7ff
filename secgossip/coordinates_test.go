package secgossip

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// place is a node of a made-up network: its round trips are known, its
// coordinates have to find out.
type place struct {
	x, y float64 // milliseconds
	*coordinates
}

func (p place) rtt(other place) time.Duration {
	return time.Duration((1 + math.Hypot(p.x-other.x, p.y-other.y)) * float64(time.Millisecond))
}

func places(n int) []place {
	random := rand.New(rand.NewPCG(1, 2))
	all := make([]place, n)
	for i := range all {
		all[i] = place{x: 200 * random.Float64(), y: 200 * random.Float64(), coordinates: newCoordinates()}
	}
	return all
}

func (p place) says() []byte { return appendCoordinate(nil, p.client.GetCoordinate()) }

// probe lets each probe each other, so often. A probe of a liar is answered with
// what lie returns.
func probe(all []place, rounds int, lie func(honest []byte) []byte) {
	for range rounds {
		for i, a := range all {
			for j, b := range all {
				if i == j {
					continue
				}
				said := b.says()
				if j == 0 && lie != nil {
					said = lie(said)
				}
				a.learn(string(rune('a'+j)), said, a.rtt(b))
			}
		}
	}
}

// wrong is by how much the estimates between honest nodes are off: the mean of
// their shares.
func wrong(all []place) float64 {
	var sum, count float64
	for i, a := range all[1:] {
		for _, b := range all[1+i+1:] {
			real := a.rtt(b).Seconds()
			estimate := a.client.DistanceTo(b.client.GetCoordinate()).Seconds()
			sum += math.Abs(estimate-real) / real
			count++
		}
	}
	return sum / count
}

func TestCoordinatesTellRoundTrips(t *testing.T) {
	all := places(10)
	before := wrong(all)
	probe(all, 50, nil)
	if after := wrong(all); after > 0.2 || before < 0.9 {
		t.Errorf("estimates are off by %.0f %%, at the beginning by %.0f %%; want at most 20", 100*after, 100*before)
	}
}

// Threat C18: one of ten says that it is where it is not.
func TestOneLiarMovesNobodyFar(t *testing.T) {
	with := func(change func(c *Coordinate)) func([]byte) []byte {
		return func(honest []byte) []byte {
			c, _ := parseCoordinate(honest)
			change(c)
			return appendCoordinate(nil, c)
		}
	}
	for name, lie := range map[string]func([]byte) []byte{
		"far away, and sure of it": with(func(c *Coordinate) { c.Vec[0], c.Error = maxCoordinate, 0 }),
		"high up":                  with(func(c *Coordinate) { c.Height, c.Error = maxCoordinate, 0 }),
		"somewhere else each time": with(func(c *Coordinate) {
			for i := range c.Vec {
				c.Vec[i] = maxCoordinate * (2*rand.Float64() - 1)
			}
			c.Error = 0
		}),
	} {
		t.Run(name, func(t *testing.T) {
			all := places(10)
			probe(all, 50, lie)
			if after := wrong(all); after > 0.6 {
				t.Errorf("estimates between the honest are off by %.0f %%, want at most 60", 100*after)
			}
		})
	}
}

// Threat C18: one that stands almost where we stand, and high up, would lift us
// out of the world.
func TestNoAnswerMovesUsFurtherThanItTook(t *testing.T) {
	const rtt = 100 * time.Millisecond
	for name, claim := range map[string]Coordinate{
		"near and high": {Vec: []float64{2e-6, 0, 0, 0, 0, 0, 0, 0}, Height: rtt.Seconds() / 2},
		"far":           {Vec: []float64{maxCoordinate, 0, 0, 0, 0, 0, 0, 0}},
		"far and high":  {Vec: []float64{maxCoordinate, 0, 0, 0, 0, 0, 0, 0}, Height: maxCoordinate},
		"here":          {Vec: make([]float64, 8)},
	} {
		c := newCoordinates()
		for range 100 {
			before := c.client.GetCoordinate()
			c.learn("liar", appendCoordinate(nil, &claim), rtt)
			after := c.client.GetCoordinate()
			if moved := apart(before, after) + math.Abs(after.Height-before.Height); moved > rtt.Seconds()/2+1e-9 {
				t.Errorf("%s: moved us by %v s in %v", name, moved, rtt)
				break
			}
		}
	}
}

func TestAWayThatBecomesShorterIsLearned(t *testing.T) {
	all := places(2)
	all[1].x = all[0].x + 200
	probe(all, 100, nil)
	all[1].x, all[1].y = all[0].x+10, all[0].y
	probe(all, 200, nil)
	real := all[0].rtt(all[1])
	if got := all[0].client.DistanceTo(all[1].client.GetCoordinate()); got > 4*real || got < real/4 {
		t.Errorf("the estimate is %v, the round trip takes %v", got, real)
	}
}

func TestOnlyCoordinatesOfOursAreRead(t *testing.T) {
	good := appendCoordinate(nil, newCoordinates().client.GetCoordinate())
	if _, ok := parseCoordinate(good); !ok {
		t.Fatal("our own is refused")
	}
	set := func(field int, value float64) []byte {
		c := Coordinate{Vec: make([]float64, 8), Error: 1}
		switch field {
		case 8:
			c.Error = value
		case 9:
			c.Height = value
		default:
			c.Vec[field] = value
		}
		return appendCoordinate(nil, &c)
	}
	bad := map[string][]byte{
		"nothing": nil, "short": good[:len(good)-1], "long": append(good[:len(good):len(good)], 0),
		"another version": append([]byte{2}, good[1:]...),
		"error below 0":   set(8, -0.1), "error above its end": set(8, 1.6), "height below 0": set(9, -1e-9),
	}
	for field := range 10 {
		for name, value := range map[string]float64{"NaN": math.NaN(), "infinite": math.Inf(1), "minus infinite": math.Inf(-1), "far": 10.001} {
			bad[name+" in "+string(rune('0'+field))] = set(field, value)
		}
	}
	c := newCoordinates()
	for name, text := range bad {
		if _, ok := parseCoordinate(text); ok {
			t.Errorf("%s: is read", name)
		}
		c.learn("x", text, time.Millisecond)
	}
	if got := c.bad.Load(); got != uint64(len(bad)) || c.claimOf("x") != nil {
		t.Errorf("%d of %d counted, claim %v", got, len(bad), c.claimOf("x"))
	}
}

func FuzzParseCoordinate(f *testing.F) {
	f.Add(appendCoordinate(nil, newCoordinates().client.GetCoordinate()))
	f.Add(make([]byte, coordinateSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := parseCoordinate(b)
		if ok && string(appendCoordinate(nil, c)) != string(b) {
			t.Errorf("%x was read as something else", b)
		}
		n := newCoordinates()
		n.learn("x", b, time.Second)
		if !n.client.GetCoordinate().IsValid() {
			t.Error("our own is invalid")
		}
	})
}

func TestMembersKnowTheirRoundTrips(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.net.Delay(30*time.Millisecond, 30*time.Millisecond)
		a, b, d := c.three()
		if _, err := a.node.Coordinate("nobody"); err == nil {
			t.Error("nobody has a coordinate")
		}
		time.Sleep(3 * time.Minute)
		theirs, own := must(a.node.Coordinate("b"))(t), must(a.node.Coordinate("d"))(t)
		if got := theirs.DistanceTo(own).Milliseconds(); got < 50 || got > 70 {
			t.Errorf("a takes b and d for %d ms apart, want about 60", got)
		}
		if got := b.node.transport.Counters()["coordinates_bad"]; got != 0 {
			t.Errorf("b refused %d coordinates", got)
		}
		d.stop()
		time.Sleep(time.Minute)
		if _, err := a.node.Coordinate("d"); err == nil {
			t.Error("the coordinate of one that failed is kept")
		}
	})
}
