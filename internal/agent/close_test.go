package agent

import (
	"crypto"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/keyring"
)

func TestSecretsAreWipedAtTheEnd(t *testing.T) {
	a, err := Start(newHome(t), loopback(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ring, own := a.identity.Keyring.Keyring(), a.identity.Identity
	epoch := ring.Primary().Secret
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	_, signed := own.Signing.Sign(nil, []byte("message"), crypto.Hash(0))
	_, agreed := own.Agreement.Agree([32]byte{9})
	_, derived := epoch.Derive(nil, []byte("test"), 32)
	_, knocked := ring.Knock().MAC([]byte("message"))
	for what, err := range map[string]error{"signing key": signed, "agreement key": agreed, "epoch": derived, "knock": knocked} {
		if !errors.Is(err, keyring.ErrDestroyed) {
			t.Errorf("%s: got %v, want %v", what, err, keyring.ErrDestroyed)
		}
	}
}

func TestCloseWaitsForWhatRunsInTheBackground(t *testing.T) {
	a, err := Start(newHome(t), loopback(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var ring error
	ended := false // the race detector, too, sees it when nobody waits for this
	if !a.background(func() {
		<-a.ctx.Done()
		for range 100_000 {
			runtime.Gosched() // let Close come as far as it can
		}
		_, ring = a.identity.Keyring.Keyring().Primary().Secret.Derive(nil, []byte("test"), 32)
		ended = true
	}) {
		t.Fatal("nothing is started while the agent runs")
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if !ended {
		t.Error("it still runs")
	}
	if ring != nil {
		t.Errorf("its secrets were wiped before it ended: %v", ring)
	}
	if a.background(func() { t.Error("it was run") }) {
		t.Error("something is started after the end")
	}
}

func TestAHomeIsReadOnlyByWhoHasItsLock(t *testing.T) {
	at := newHome(t)
	running, err := Start(at, loopback(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	node := filepath.Join(string(at), "node")
	left := []string{filepath.Join(node, "keyring.age.tmp-1"), filepath.Join(node, "keyring.age.prev.tmp-22")}
	for _, path := range left {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// What a second agent would stumble over, if it looked.
	bundle := filepath.Join(string(at), "bundle.pem")
	if err := os.Rename(bundle, bundle+".away"); err != nil {
		t.Fatal(err)
	}
	if a, err := Start(at, loopback(), io.Discard); err == nil || !strings.Contains(err.Error(), "another agent is running") {
		if err == nil {
			a.Close()
		}
		t.Errorf("got %v, want to be told of the other agent", err)
	}
	for _, path := range left {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("a file of the running agent is gone: %v", err)
		}
	}
	if err := running.Close(); err != nil {
		t.Error(err)
	}
	if err := os.Rename(bundle+".away", bundle); err != nil {
		t.Fatal(err)
	}
	again, err := Start(at, loopback(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for _, path := range left {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want it removed", filepath.Base(path), err)
		}
	}
}

func TestAHomeThatIsNotThereIsAProblemOfTheSetup(t *testing.T) {
	_, err := Start(home.Home(filepath.Join(t.TempDir(), "missing")), loopback(), io.Discard)
	var problem *home.Problem
	if !errors.Is(err, ErrSetup) || !errors.As(err, &problem) || problem.Hint() == "" {
		t.Errorf("got %v, want %v with what to do", err, ErrSetup)
	}
}
