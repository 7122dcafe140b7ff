package agent

import (
	"bytes"
	"strings"
	"testing"
)

func TestLogOfTheStartComesAfterTheBanner(t *testing.T) {
	var out bytes.Buffer
	g := &gate{to: &out}
	g.Write([]byte("one\n"))
	g.Write([]byte("two\n"))
	if out.Len() > 0 {
		t.Errorf("%q was written before the banner", out.String())
	}
	g.release("banner\n")
	g.release("banner\n")
	g.Write([]byte("three\n"))
	if got, want := out.String(), "banner\none\ntwo\nthree\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGateHoldsNoMoreThanItsBound(t *testing.T) {
	var out bytes.Buffer
	g := &gate{to: &out}
	line := strings.Repeat("x", 1000) + "\n"
	for range 2 * maxHeld / len(line) {
		g.Write([]byte(line))
	}
	if len(g.held) > maxHeld || out.Len() == 0 {
		t.Errorf("%d bytes are held, %d were written", len(g.held), out.Len())
	}
}
