package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHandlerIsTheOneThatTheRunnerIsTestedWith(t *testing.T) {
	want, err := os.ReadFile("../../handler/testdata/handler.sh")
	if err != nil {
		t.Fatal(err)
	}
	if handlerScript != string(want) {
		t.Errorf("got %q, want %q", handlerScript, want)
	}
}

func TestAFileThatIsThereAlreadyStopsTheDemoAndStays(t *testing.T) {
	granted := filepath.Join(t.TempDir(), "mem.txt")
	if err := os.WriteFile(granted, []byte("mine"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := newFolder("secgossip", granted); err == nil || !strings.Contains(err.Error(), "move it away first") {
		t.Errorf("got %v, want an error with the next step", err)
	}
	info, err := os.Stat(granted)
	if err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(granted); err != nil || string(content) != "mine" || info.Mode() != 0o640 {
		t.Errorf("afterwards: got %q, %v, %v, want it as it was", content, info.Mode(), err)
	}
}

func TestALinkThatIsThereAlreadyIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	granted, elsewhere := filepath.Join(dir, "mem.txt"), filepath.Join(dir, "elsewhere")
	if err := os.Symlink(elsewhere, granted); err != nil {
		t.Fatal(err)
	}
	if _, err := newFolder("secgossip", granted); err == nil {
		t.Error("got no error")
	}
	if _, err := os.Lstat(elsewhere); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what it leads to: got %v, want that it does not exist", err)
	}
}

func TestNothingRemainsOfAFolder(t *testing.T) {
	granted := filepath.Join(t.TempDir(), "mem.txt")
	f, err := newFolder("secgossip", granted)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.remove(); err != nil {
		t.Error(err)
	}
	for _, path := range []string{f.Path, granted} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: got %v, want that it does not exist", path, err)
		}
	}
}

func TestAProgramThatIsNotThereChangesNothing(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run([]string{"-bin", filepath.Join(t.TempDir(), "secgossip")}, &stdout, &stderr); code != 1 {
		t.Errorf("got exit code %d, want 1", code)
	}
	if got := stderr.String(); !strings.Contains(got, "make demo") {
		t.Errorf("got %q, want the next step", got)
	}
	if stdout.Len() > 0 {
		t.Errorf("got %q, want nothing", &stdout)
	}
}

func TestADemoThatNobodyReadsFails(t *testing.T) {
	ctx, fail := context.WithCancelCause(t.Context())
	n := &narrator{out: deaf{}, fail: fail}
	n.say("hello")
	if err := context.Cause(ctx); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want %v", err, os.ErrClosed)
	}
}

type deaf struct{}

func (deaf) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestEverythingASecondHandlerRunWritesIsNoticed(t *testing.T) {
	f, err := newFolder("secgossip", filepath.Join(t.TempDir(), "mem.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.remove()
	c := newCluster(f)
	c.fired = []string{"xcxx"}
	node := c.nodes[0]
	line := c.expected(node, "xcxx") + "\n"
	for name, content := range map[string]string{
		"nothing": "", "half": line[:len(line)-3], "twice": line + line,
		"another event": line + c.expected(node, "v1") + "\n", "another node": c.expected(c.nodes[1], "xcxx") + "\n",
	} {
		if err := os.WriteFile(f.Output(node.Name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if c.checkOutput(node) == nil {
			t.Errorf("%s: got no complaint", name)
		}
	}
	if err := os.WriteFile(f.Output(node.Name), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.checkOutput(node); err != nil {
		t.Errorf("as it should be: %v", err)
	}
}
