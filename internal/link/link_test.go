package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

// messages are one or more of each kind, with much in them.
func messages(side Side) []Message {
	long := bytes.Repeat([]byte{7}, MaxOutput)
	if side == Runner {
		return []Message{
			&Order{Home: "/etc/secgossip", Settings: []byte(`{"Bind":"x"}`), Handlers: "2, as user 'nobody'", Switch: true, UID: 61184, GID: 61184},
			&Stop{}, &Stop{Leave: true},
			&Check{Number: 1, Settings: []byte("{}"), Bundle: []byte("bundle"), Certificate: []byte("certificate"), Credential: []byte("credential")},
			&Apply{Number: 1}, &Apply{Number: 1, Use: true},
			&Reloaded{Ask: 1, Added: []string{"a"}, Removed: []string{"b"}, Changed: []string{"c"}, Settings: []string{"tag"}, Restart: []string{"bind"}},
			&Reloaded{Ask: 2, Problem: "nothing was changed"},
			&Handler{Ask: 7, Spec: "user=/bin/x", Title: "deploy", Program: "/bin/x", Filters: []string{"user"}, User: "nobody", Runs: 1, Last: 1,
				Layers: []Layer{{Name: "files", Detail: "missing"}}},
			&Handler{Ask: 7, Number: 1, Running: 1, Waiting: 64, Failures: 1, Dropped: 1 << 40, BySpare: 3, Degraded: "too slow"},
			&Run{Ask: 8, Handler: 1, Program: "/bin/x", Event: "user", Name: "deploy", EventID: "00", Principal: "operator", Started: true, ExitCode: -1,
				Problem: "killed", Begin: 1 << 50, Duration: 30_000_000, Stdout: long, StdoutOmitted: 1, Stderr: long, StderrOmitted: 1},
			&Report{Ask: 7, Refused: 3},
			&Answer{Query: "00", Output: make([]byte, MaxAnswer), Found: true}, &Answer{Query: "00"},
			&Discovered{Ask: 9, Provider: 1, Addresses: []string{"203.0.113.7:7946", "web-1"}, Runs: 2},
			&Discovered{Ask: 10, Problem: "exit 1", Runs: 3, Failures: 1},
		}
	}
	return []Message{
		&Running{}, &Signed{Raw: []byte("event")}, &Signed{Raw: []byte("event"), Origin: "web-1", Payload: []byte("payload")},
		&Members{Event: "member-join", Members: []Member{
			{Name: "web-1", Addr: []byte{192, 0, 2, 1}, Tags: map[string]string{"role": "web", "a": ""}}, {Name: "web-2"},
		}},
		&Epoch{Number: 7, Action: "use", Reason: "age", Keeper: "web-1"},
		&Query{Query: "00", Raw: []byte("query"), Deadline: 1 << 41},
		&Issuer{Certificate: []byte("certificate")}, &Revocation{Statement: []byte("statement"), Credential: []byte("credential")},
		&Tags{Tags: map[string]string{"role": "web"}}, &Tags{},
		&Ask{Ask: 7, Handler: -1}, &Ask{Ask: 8, Runs: 20, EventID: "00", Handler: 1},
		&Reread{Ask: 1}, &Checked{Number: 1}, &Checked{Number: 1, Problem: "of another node", Hint: "look"},
		&Applied{Number: 1, Settings: []string{"tag"}}, &Applied{Number: 1, Problem: "nobody was told"},
		&Final{Problem: "not started", Hint: "try", Setup: true}, &Final{},
		&Discover{Ask: 9, Provider: 1}, &Discover{},
	}
}

func appended(t *testing.T, m Message) []byte {
	t.Helper()
	frame, err := Append(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func TestEverythingThatIsSaidIsHeardBySidesThatMay(t *testing.T) {
	for _, side := range []Side{Runner, Network} {
		for _, m := range messages(side) {
			frame := appended(t, m)
			heard, err := side.Parse(frame)
			if err != nil {
				t.Errorf("%T: %v", m, err)
				continue
			}
			if again := appended(t, heard); !bytes.Equal(again, frame) {
				t.Errorf("%T is %x after it was heard, and was %x", m, again, frame)
			}
			// The runner takes no orders, and gives no reports to itself.
			if _, err := (1 - side).Parse(frame); err == nil {
				t.Errorf("%T is taken from the wrong side", m)
			}
		}
	}
}

func TestWhatNoHonestSideWritesIsRefused(t *testing.T) {
	refused := func(side Side, frame []byte, what string) {
		t.Helper()
		if m, err := side.Parse(frame); err == nil {
			// Another message is fine, if it is written like that.
			if again := appended(t, m); !bytes.Equal(again, frame) {
				t.Errorf("%s is taken as %+v", what, m)
			}
		}
	}
	for _, side := range []Side{Runner, Network} {
		for _, m := range messages(side) {
			frame := appended(t, m)
			for i := range frame {
				if i < len(frame) {
					if _, err := side.Parse(frame[:i]); err == nil {
						t.Errorf("%T is taken with %d of its %d bytes", m, i, len(frame))
					}
				}
				if i < 512 {
					flipped := bytes.Clone(frame)
					flipped[i] ^= 1 << (i % 8)
					refused(side, flipped, "a flipped bit")
				}
			}
			if _, err := side.Parse(append(bytes.Clone(frame), 0)); err == nil {
				t.Errorf("%T is taken with a byte behind it", m)
			}
		}
	}
}

func TestLimitsHoldForBothEnds(t *testing.T) {
	long := strings.Repeat("a", MaxName+1)
	for what, m := range map[string]Message{
		"payload":    &Signed{Payload: make([]byte, MaxPayload+1)},
		"event":      &Signed{Raw: make([]byte, maxSigned+1)},
		"query":      &Query{Raw: make([]byte, maxSigned+1)},
		"query's id": &Query{Query: long},
		"answered":   &Answer{Query: long},
		"issuer":     &Issuer{Certificate: make([]byte, maxCertificate+1)},
		"revocation": &Revocation{Statement: make([]byte, maxStatement+1)},
		"name":       &Members{Event: "member-join", Members: []Member{{Name: long}}},
		"address":    &Members{Members: []Member{{Addr: make([]byte, 5)}}},
		"tag":        &Members{Members: []Member{{Tags: map[string]string{"role": long + long}}}},
		"members":    &Members{Members: make([]Member, MaxMembers+1)},
		"own tag":    &Tags{Tags: map[string]string{"role": long + long}},
		"problem":    &Final{Problem: strings.Repeat("a", MaxText+1)},
		"output":     &Run{Stdout: make([]byte, MaxOutput+1)},
		"answer":     &Answer{Output: make([]byte, MaxAnswer+1)},
		"number":     &Handler{Number: MaxHandlers},
		"filter":     &Handler{Filters: []string{long}},
		"its layers": &Handler{Layers: make([]Layer, maxLayers+1)},
		"asked":      &Ask{Runs: MaxRuns + 1},
		"asked for":  &Ask{EventID: long},
		"changes":    &Reloaded{Added: []string{long}},
		"changed":    &Applied{Settings: []string{long}},
		"check":      &Checked{Hint: strings.Repeat("a", MaxText+1)},
		"provider":   &Discover{Provider: MaxProviders},
		"none":       &Discover{Provider: -1},
		"provider's": &Discovered{Provider: MaxProviders},
		"addresses":  &Discovered{Addresses: make([]string, MaxAddresses+1)},
		"found":      &Discovered{Addresses: []string{long + long}},
		"root":       &Order{Switch: true},
		"settings":   &Order{Settings: make([]byte, maxSettings+1)},
		"others":     &Check{Settings: make([]byte, maxSettings+1)},
		"a frame":    &Check{Bundle: make([]byte, MaxFrame)},
	} {
		if _, err := Append(nil, m); err == nil {
			t.Errorf("%s: it is written", what)
		}
	}
}

// Nothing that the parts of a message may be makes the message too large to be sent.
func TestLargestMessagesFitTheirFrames(t *testing.T) {
	text, name := strings.Repeat("a", MaxText), strings.Repeat("a", MaxName)
	names, layers := make([]string, MaxHandlers), make([]Layer, maxLayers)
	for i := range names {
		names[i] = name
	}
	addresses := make([]string, MaxAddresses)
	for i := range addresses {
		addresses[i] = strings.Repeat("a", MaxAddress)
	}
	for i := range layers {
		layers[i] = Layer{Name: name, Detail: strings.Repeat("a", MaxDetail)}
	}
	member := Member{Name: name[:64], Addr: make([]byte, 16), Tags: map[string]string{name[:250]: name}} // memberlist has no more
	members := make([]Member, MaxMembers)
	for i := range members {
		members[i] = member
	}
	for _, m := range []Message{
		&Order{Home: text[:4<<10], Settings: make([]byte, maxSettings), Handlers: text[:4<<10]},
		&Check{Settings: make([]byte, maxSettings), Bundle: make([]byte, 4<<10), Certificate: make([]byte, 4<<10), Credential: make([]byte, 4<<10)},
		&Reloaded{Added: names, Removed: names, Changed: names, Settings: names[:32], Restart: names[:32], Problem: text},
		&Handler{Spec: text, Title: text, Program: text, Filters: names[:MaxName], User: name, Degraded: text, Layers: layers},
		&Run{Program: text, Event: name, Name: name, EventID: name, Principal: name, Problem: text,
			Stdout: make([]byte, MaxOutput), Stderr: make([]byte, MaxOutput)},
		&Signed{Raw: make([]byte, maxSigned), Origin: name, Payload: make([]byte, MaxPayload)},
		&Answer{Query: name, Output: make([]byte, MaxAnswer)}, &Members{Event: name, Members: members},
		&Discovered{Addresses: addresses, Problem: text},
		&Final{Problem: text, Hint: text}, &Checked{Problem: text, Hint: text},
	} {
		if _, err := Append(nil, m); err != nil {
			t.Errorf("%T: %v", m, err)
		}
	}
}

// socketPair is a pipe in memory.
func socketPair(t *testing.T) (ours, theirs net.Conn) {
	ours, theirs = net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

func TestALinkCarriesMessagesInOrderAndEndsWithTheOtherSide(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	a, b := net.Pipe()
	runner, network := New(a, Runner), New(b, Network)
	for _, m := range messages(Network) {
		if err := network.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range messages(Network) {
		got, err := runner.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(appended(t, got), appended(t, want)) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if err := network.Close(); err != nil {
		t.Error(err)
	}
	if _, err := runner.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want %v", err, io.EOF)
	}
	if err := network.Send(new(Running)); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want %v", err, ErrClosed)
	}
	if err := runner.Close(); err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, leaks)
}

func TestASideThatIsNotReadLosesItsOldestEventsAndNothingElse(t *testing.T) {
	a, b := socketPair(t)
	network := New(a, Network)
	const many = 10 * maxWaiting
	for i := range many {
		if err := network.Offer(&Signed{Raw: binary.BigEndian.AppendUint32(nil, uint32(i))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := network.Send(new(Running)); err != nil {
		t.Fatal(err)
	}
	runner := New(b, Runner)
	var got []uint32
	for {
		m, err := runner.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if _, last := m.(*Running); last {
			break
		}
		got = append(got, binary.BigEndian.Uint32(m.(*Signed).Raw))
	}
	// One may have been on its way already.
	if len(got) > maxWaiting+1 || got[len(got)-1] != many-1 {
		t.Errorf("got %d events, the last %d; want at most %d, the last %d", len(got), got[len(got)-1], maxWaiting+1, many-1)
	}
	if lost := network.Dropped(); lost != uint64(many-len(got)) {
		t.Errorf("%d events are counted as lost, want %d", lost, many-len(got))
	}
}

// What waits is bounded by its bytes as well.
func TestLargeMessagesThatNobodyReadsAreFewer(t *testing.T) {
	a, _ := socketPair(t)
	runner := New(a, Runner)
	const most = maxBytes / MaxOutput
	for range most + 2 {
		if err := runner.Send(&Run{Stdout: make([]byte, MaxOutput)}); err != nil {
			return
		}
	}
	t.Errorf("more than %d bytes wait", maxBytes)
}

func TestCommandsThatNobodyReadsAreAnErrorAndNotAQueue(t *testing.T) {
	a, _ := socketPair(t)
	network := New(a, Network)
	for range maxCommands + 2 {
		if err := network.Send(new(Running)); err != nil {
			return
		}
	}
	t.Errorf("more than %d commands wait", maxCommands)
}

// A side that begins a frame and never ends it, or reads nothing, has no hold on the other.
func TestNothingWaitsForASideThatIsStuck(t *testing.T) {
	t.Run("reading", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			runner := New(a, Runner)
			go b.Write([]byte{0, 0})
			if _, err := runner.Receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v, want %v", err, os.ErrDeadlineExceeded)
			}
			_ = runner.Close()
			b.Close()
		})
	})
	t.Run("writing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			network := New(a, Network)
			if err := network.Send(new(Running)); err != nil {
				t.Fatal(err)
			}
			if _, err := network.Receive(); err == nil {
				t.Error("the link goes on")
			}
			_ = network.Close()
			b.Close()
		})
	})
}

func TestFramesOfNoOrOfTooManyBytesEndTheLink(t *testing.T) {
	for _, size := range []uint32{0, MaxFrame + 1, 1<<32 - 1} {
		a, b := socketPair(t)
		go b.Write(append(binary.BigEndian.AppendUint32(nil, size), kindTags))
		if m, err := New(a, Runner).Receive(); err == nil {
			t.Errorf("a frame of %d bytes is taken as %T", size, m)
		}
	}
}

// What is parsed is written again as the same bytes.
func FuzzParsedIsWrittenTheSame(f *testing.F) {
	for _, side := range []Side{Runner, Network} {
		for _, m := range messages(side) {
			frame, err := Append(nil, m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(frame)
		}
	}
	f.Add([]byte{kindMembers, 0xa0})
	f.Fuzz(func(t *testing.T, frame []byte) {
		for _, side := range []Side{Runner, Network} {
			m, err := side.Parse(frame)
			if err != nil {
				continue
			}
			again, err := Append(nil, m)
			if err != nil || !bytes.Equal(again, frame) {
				t.Errorf("%x is taken as %+v, which is written as %x (%v)", frame, m, again, err)
			}
		}
	})
}
