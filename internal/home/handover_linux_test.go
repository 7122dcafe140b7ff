package home

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/secgossip/secgossip/keyring"
)

// agentUser is a user that no account has.
const agentUser = 61184

// handed is a keeper's home that was handed over.
func handed(t *testing.T) Home {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root hands over")
	}
	folder, err := os.MkdirTemp("/tmp", "secgossip-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil { // others must get there for these tests
		t.Fatal(err)
	}
	h := Home(filepath.Join(folder, "home"))
	if err := os.CopyFS(string(h), os.DirFS(string(homes(t).keeper))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fileRootKey, fileIssuerKey, fileUnlock, fileSigningKey, fileAgreementKey, fileKeyring, fileClientKey, fileClientToken} {
		if err := os.Chmod(h.path(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"", "ca", "client", "node", dirState, dirRunner} {
		if err := os.Chmod(h.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.HandOver(agentUser, agentUser); err != nil {
		t.Fatal(err)
	}
	return h
}

// Threat L12: the user that a home is handed to writes what an agent writes, and gets
// nothing else of it, to read or to replace.
func TestUserThatAHomeIsHandedToGetsWhatAnAgentWritesAndNoMore(t *testing.T) {
	h := handed(t)
	do := func(line string) error {
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir = "/"
		cmd.Env = []string{"H=" + string(h), "PATH=/usr/bin:/bin"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: agentUser, Gid: agentUser}}
		return cmd.Run()
	}
	if err := os.WriteFile(filepath.Join(h.Runner(), "runs.journal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"cat $H/ca/root.key.age", "cat $H/client/client.key", "cat $H/client/token", "cat $H/node/issuer.key.age",
		"cat $H/node/unlock.key", "cat $H/node/signing.key.age", "rm -f $H/node/signing.key.age", "mv $H/node/node.cred $H/node/x",
		"cat $H/runner/runs.journal", "rm -f $H/runner/runs.journal", "touch $H/runner/unfinished", "mv $H/runner $H/x",
		"touch $H/x", "mv $H/node $H/x", "mv $H/bundle.pem $H/state/x", "echo x >>$H/bundle.pem", "chmod 777 $H/node",
		"cp $H/node/keyring.age $H/node/x && mv -f $H/node/x $H/node/node.crt",
	} {
		if do(line) == nil {
			t.Errorf("it can: %s", line)
		}
	}
	for _, line := range []string{
		"cat $H/node/keyring.age", "touch $H/state/y", "cp $H/node/keyring.age $H/node/y && mv -f $H/node/y $H/node/keyring.age",
	} {
		if err := do(line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	now := time.Now()
	n, err := h.LoadNode(Unlock{}, now)
	if err != nil {
		t.Fatalf("root cannot read what that user has written: %v", err)
	}
	n.Destroy()
	if err := h.IssueNode(background(), Home(filepath.Join(filepath.Dir(string(h)), "new")), NodeOrder{Name: "web-3"}, refuseToAsk, now); err != nil {
		t.Errorf("root cannot issue from it: %v", err)
	}
	if _, err := h.Reseal(Unlock{}, Unlock{}); err != nil {
		t.Errorf("root cannot reseal it: %v", err)
	}
	if err := h.HandOver(agentUser+1, agentUser+1); err != nil {
		t.Errorf("it cannot be handed to another: %v", err)
	}
}

// Root believes that user in nothing but the keyring, and only in a folder that it has
// opened to that user alone.
func TestRootTakesNoOtherFileOfThatUser(t *testing.T) {
	h := handed(t)
	chown := func(name string, uid, gid int) {
		t.Helper()
		if err := os.Lchown(h.path(name), uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, want error) {
		t.Helper()
		n, err := h.LoadNode(Unlock{}, time.Now())
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
		if err == nil {
			n.Destroy()
		}
	}
	for _, name := range []string{fileUnlock, fileSigningKey, fileAgreementKey, fileNodeCert, fileNodeCred} {
		chown(name, agentUser, agentUser)
		refused(name, keyring.ErrPermissions)
		chown(name, 0, 0)
	}
	refused("nothing is wrong", nil)
	chown(fileKeyring, agentUser+1, agentUser+1) // another's
	refused("keyring of another group", keyring.ErrPermissions)
	chown(fileKeyring, agentUser, agentUser)
	chown("node", agentUser, agentUser)
	refused("folder of that user", keyring.ErrPermissions)
	chown("node", 0, agentUser)
	for _, mode := range []fs.FileMode{0o770, 0o777 | fs.ModeSticky, 0o775 | fs.ModeSticky} {
		if err := os.Chmod(h.path("node"), mode); err != nil {
			t.Fatal(err)
		}
		refused("folder of mode "+mode.String(), keyring.ErrPermissions)
	}
}

// A link in the place of what is handed over would hand over something else.
func TestHandingOverFollowsNoLinks(t *testing.T) {
	h := handed(t)
	precious := filepath.Join(filepath.Dir(string(h)), "precious")
	for what, plant := range map[string]func() error{
		"symbolic link for the keyring": func() error { return os.Symlink(precious, h.path(fileKeyring)) },
		"hard link for the keyring":     func() error { return os.Link(precious, h.path(fileKeyring)) },
		"hard link in state":            func() error { return os.Link(precious, h.path("state/x")) },
		"symbolic link for state":       func() error { return os.Symlink(filepath.Dir(precious), h.path(dirState)) },
	} {
		for _, path := range []string{precious, h.path(fileKeyring), h.path(dirState)} {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(precious, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if what != "symbolic link for state" {
			if err := os.Mkdir(h.path(dirState), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := plant(); err != nil {
			t.Fatal(err)
		}
		if err := h.HandOver(agentUser, agentUser); !errors.Is(err, keyring.ErrPermissions) {
			t.Errorf("%s: got %v, want %v", what, err, keyring.ErrPermissions)
		}
		if info, err := os.Lstat(precious); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s: it was handed over (%v)", what, err)
		}
	}
}

// What is in the runner's folder decides which programs run again: it is ours alone, or
// it is not used.
func TestRunnersFolderIsOursAlone(t *testing.T) {
	h := Home(t.TempDir())
	for range 2 { // it is made, and found
		if err := h.MakeRunner(); err != nil {
			t.Fatal(err)
		}
	}
	for what, change := range map[string]func() error{
		"open to others": func() error {
			return errors.Join(os.Mkdir(h.Runner(), 0o750), os.Chmod(h.Runner(), 0o750))
		},
		"a link": func() error { return os.Symlink(t.TempDir(), h.Runner()) },
		"a file": func() error { return os.WriteFile(h.Runner(), nil, 0o600) },
	} {
		if err := errors.Join(os.Remove(h.Runner()), change()); err != nil {
			t.Fatal(err)
		}
		var problem *Problem
		if err := h.MakeRunner(); !errors.Is(err, keyring.ErrPermissions) || !errors.As(err, &problem) {
			t.Errorf("%s: got %v, want %v with what to do", what, err, keyring.ErrPermissions)
		}
	}
}
