package handler

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// provider makes one of a script.
func provider(t *testing.T, text string, settings Settings, arguments ...string) *Provider {
	t.Helper()
	needLandlock(t)
	p, err := NewProvider(Config{ScratchRoot: folder(t), Settings: settings}, script(t, text), arguments)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProviderGetsItsArgumentsAndNoEvent(t *testing.T) {
	p := provider(t, `echo "$SECGOSSIP_EVENT $SECGOSSIP_SELF_NAME $SECGOSSIP_TAG_ZONE"; echo "$#:$1:$2"; wc -c; id -u`, Settings{}, "--region", "$(id); eu")
	got := p.Run(t.Context(), "web-1", map[string]string{"zone": "b"})
	want := "discover web-1 b\n2:--region:$(id); eu\n0\n"
	if !got.Done() || !strings.HasPrefix(got.Stdout.String(), want) || strings.HasSuffix(got.Stdout.String(), "\n0\n0\n") {
		t.Errorf("got %+v with %q, want %q and no root", got, got.Stdout.String(), want)
	}
	if filter := (Filter{Kind: kindAny}); (Spec{Filters: []Filter{filter}}).Matches(Event{Kind: kindDiscover}) {
		t.Error("a handler of every event is run when addresses are wanted")
	}
	if _, err := ParseSpec("discover=/bin/true"); err == nil {
		t.Error("there is a filter for it")
	}
}

// What it prints may be as much as it likes: little of it is kept.
func TestProviderThatNeverEndsIsKilledInTime(t *testing.T) {
	p := provider(t, "yes", Settings{Timeout: time.Second})
	got := p.Run(t.Context(), "web-1", nil)
	if !errors.Is(got.Err, ErrTimeout) || len(got.Stdout.Bytes()) > 2*keptOutput {
		t.Errorf("got %v with %d bytes, want %v", got.Err, len(got.Stdout.Bytes()), ErrTimeout)
	}
	// And with the agent.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := provider(t, "sleep 60", Settings{}).Run(ctx, "web-1", nil); got.Done() {
		t.Errorf("got %+v after the end", got)
	}
}

func TestProviderIsConfinedAsAHandlerIs(t *testing.T) {
	needLandlock(t)
	if _, err := NewProvider(Config{ScratchRoot: folder(t)}, "/no/such/program", nil); err == nil {
		t.Error("a program that is not there is taken")
	}
	private := folder(t)
	secret := write(t, private+"/secret", "x", 0o644)
	p, err := NewProvider(Config{ScratchRoot: folder(t), Private: []string{private}, Settings: Settings{Network: true}},
		script(t, "cat "+secret+"; echo x >"+folder(t)+"/file; echo end"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Run(t.Context(), "web-1", nil); got.Stdout.String() != "end\n" || len(p.Layers()) == 0 {
		t.Errorf("got %q with the layers %v, want what is private to be kept", got.Stdout.String(), p.Layers())
	}
}
