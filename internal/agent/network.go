package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/link"
)

// orderTime is how long the network process waits for its order, and the runner for
// the other's end.
const orderTime = 30 * time.Second

// settlers makes the settle of an order.
type settlers func(order *link.Order) settle

// network is the network process: it does what its order says until it is told to stop,
// a client asks it to leave, or joining fails. lost is called when the runner is gone.
func network(l *link.Link, settlers settlers, path string, log io.Writer, lost func()) {
	incoming := receive(l, lost)
	var order *link.Order
	select {
	case m, ok := <-incoming:
		if order, ok = m.(*link.Order); !ok {
			lost()
			return
		}
	case <-time.After(orderTime):
		lost()
		return
	}
	if order.Switch {
		log = &renamed{to: log, from: path, into: order.Home}
	} else {
		path = order.Home
	}
	words := words{from: path, into: order.Home}
	err := obey(l, order, home.Home(path), settlers, words, incoming, log)
	if sent := l.Send(words.final(err)); sent != nil {
		lost()
	}
}

// receive starts to read what the runner says, into the channel, which is closed at
// the end.
func receive(l *link.Link, lost func()) <-chan link.Message {
	incoming := make(chan link.Message, 64)
	go func() {
		defer close(incoming)
		for {
			m, err := l.Receive()
			if err != nil {
				lost()
				return
			}
			incoming <- m
		}
	}()
	return incoming
}

// obey is the life of an agent.
func obey(l *link.Link, order *link.Order, at home.Home, settlers settlers, words words, incoming <-chan link.Message, log io.Writer) error {
	settings, err := settingsFrom(order.Settings)
	if err != nil {
		return err
	}
	runner := newRemote(l)
	commands := sorted(incoming, runner)
	a, err := startAgent(at, settings, runner, settlers(order), order.Handlers, log)
	if err != nil {
		return err
	}
	if err := l.Send(new(link.Running)); err != nil {
		return errors.Join(err, a.Close())
	}
	joined := a.Join()
	for {
		select {
		case err := <-joined:
			if err != nil {
				return errors.Join(err, a.Close())
			}
			continue
		case command, ok := <-commands:
			switch c := command.(type) {
			case *link.Check, *link.Apply:
				if err := a.reload(l, c, words); err != nil {
					return errors.Join(err, a.Close())
				}
				continue
			case *link.Stop:
				if !c.Leave {
					return a.Close()
				}
			}
			if !ok {
				return a.Close()
			}
		case <-a.Left():
			fmt.Fprintln(log, "==> Asked to leave the cluster...")
		}
		return leave(l, a, commands, log)
	}
}

// sorted hands answers to the remote and passes commands on.
func sorted(incoming <-chan link.Message, runner *remote) <-chan link.Message {
	commands := make(chan link.Message, 8)
	go func() {
		defer close(commands)
		for m := range incoming {
			switch m.(type) {
			case *link.Stop, *link.Check, *link.Apply:
				select {
				case commands <- m:
				default: // an operator's eighth signal in a moment
				}
			default:
				runner.hear(m)
			}
		}
	}()
	return commands
}

// leave tells the cluster that the agent goes, then stops it. A second signal cuts that
// short.
func leave(l *link.Link, a *Agent, commands <-chan link.Message, log io.Writer) error {
	left := make(chan error, 1)
	go func() { left <- a.Leave() }()
	for {
		select {
		case err := <-left:
			return errors.Join(err, a.Close())
		case command, ok := <-commands:
			switch c := command.(type) {
			case *link.Check:
				_ = l.Send(&link.Checked{Number: c.Number, Problem: "the agent is about to leave the cluster"}) // or the runner is gone
				continue
			case *link.Apply:
				continue // of what was not checked
			}
			if ok {
				fmt.Fprintln(log, "==> Caught a second signal, stopping at once...")
			}
			return errors.Join(errors.New("stopped before the cluster knew that this node leaves"), a.Close())
		}
	}
}

// reload does a half of a reload and answers it.
func (a *Agent) reload(l *link.Link, half link.Message, words words) error {
	switch half := half.(type) {
	case *link.Check:
		answer := &link.Checked{Number: half.Number}
		if err := a.check(half); err != nil {
			answer.Problem, answer.Hint = words.of(err)
		}
		return l.Send(answer)
	case *link.Apply:
		if !half.Use {
			a.checked = nil
			return nil
		}
		changed, err := a.apply(half.Number)
		answer := &link.Applied{Number: half.Number, Settings: changed}
		if err != nil {
			answer.Problem, _ = words.of(err)
		}
		return l.Send(answer)
	}
	return nil
}

// words says things as operators know them: the path of the home is theirs.
type words struct{ from, into string }

// of is what an error says, and its hint.
func (w words) of(err error) (problem, hint string) {
	say := func(text string) string {
		if w.from != "" {
			text = strings.ReplaceAll(text, w.from, w.into)
		}
		return validText(text, link.MaxText)
	}
	var with interface{ Hint() string }
	if errors.As(err, &with) {
		hint = say(with.Hint())
	}
	return say(err.Error()), hint
}

// final says how an agent ended.
func (w words) final(err error) *link.Final {
	if err == nil {
		return new(link.Final)
	}
	f := &link.Final{Setup: errors.Is(err, ErrSetup)}
	f.Problem, f.Hint = w.of(err)
	return f
}

// ended is an error of the network process, in the runner.
type ended struct{ final *link.Final }

func (e *ended) Error() string { return e.final.Problem }
func (e *ended) Hint() string  { return e.final.Hint }
func (e *ended) Is(target error) bool {
	return target == ErrSetup && e.final.Setup
}

// renamed writes with one path in the place of another: the network process knows its
// home by a descriptor, which is nobody's business.
type renamed struct {
	to         io.Writer
	from, into string
}

func (r *renamed) Write(b []byte) (int, error) {
	if _, err := r.to.Write(bytes.ReplaceAll(b, []byte(r.from), []byte(r.into))); err != nil {
		return 0, err
	}
	return len(b), nil
}
