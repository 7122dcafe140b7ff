package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestNothingRemainsOfALab(t *testing.T) {
	l, err := New("secgossip", "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(l.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that it does not exist", err)
	}
}

func TestAComplaintThatIsFinalIsNotWaitedFor(t *testing.T) {
	complaint := errors.New("gone")
	asked := 0
	err := Await(t.Context(), func(context.Context) error {
		asked++
		return Finally(complaint)
	})
	if !errors.Is(err, complaint) || asked != 1 {
		t.Errorf("got %v after asking %d times, want %v after one", err, asked, complaint)
	}
}

// program makes a lab whose program is a script.
func program(t *testing.T, script string) *Lab {
	l, err := New(filepath.Join(t.TempDir(), "program"), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Remove() })
	if err := os.WriteFile(l.Bin, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestARefusalSaysWhatTheCommandSaid(t *testing.T) {
	l := program(t, "echo never >&2; exit 4")
	_, err := l.Run(t.Context(), Command{Args: []string{"members"}})
	refused, ok := errors.AsType[*Refusal](err)
	if !ok || refused.Code != 4 || refused.Stderr != "never" {
		t.Errorf("got %v, want exit code 4 and what it said", err)
	}
}

func TestAnAgentThatEndsAtOnceDidNotStart(t *testing.T) {
	l := program(t, "exit 1")
	node := &Node{Name: "web-1"}
	if err := l.Start(t.Context(), node); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("got %v, want that it ended", err)
	}
	if node.Running() {
		t.Error("it runs")
	}
	if err := node.Stop(); err == nil {
		t.Error("its end is not reported")
	}
}

func TestAPrefixStartsTheAgentAndWhoeverAsksIt(t *testing.T) {
	l := program(t, `test "$PREFIXED" = yes || exit 1
case "$*" in *members*) echo asked; exit;; esac
sleep 60 &
trap 'kill $!; exit 0' INT
echo agent running!
wait`)
	node := &Node{Name: "web-1", Gossip: "192.0.2.1:7946", RPC: "127.0.0.1:7373", Prefix: []string{"env", "PREFIXED=yes"}}
	if err := l.Start(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	if out, err := l.Ask(t.Context(), "web-1", node, "members"); err != nil || out != "asked\n" {
		t.Errorf("got %q, %v", out, err)
	}
	if err := node.Stop(); err != nil {
		t.Error(err)
	}
	if got := []string{node.Gossip, node.RPC}; !slices.Equal(got, []string{"192.0.2.1:7946", "127.0.0.1:7373"}) {
		t.Errorf("addresses: got %q, want those that were chosen", got)
	}
}
