package home

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/keyring"
	"github.com/secgossip/secgossip/pki"
)

// unlockFile is a file outside of every home.
func unlockFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "unlock")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// handOver makes path what the service manager hands over.
func handOver(t *testing.T, path string) {
	t.Helper()
	folder := t.TempDir()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, credentialName), content, 0o400); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", folder)
}

// classicIdentity is what age-keygen wrote once. It opens nothing but these tests'.
const classicIdentity = "AGE-SECRET-KEY-1DR3SG3E3LE9QKMFWATUD5TUGS9QGQW0YL7LNTFYL5H9D3KCW457SW69PY6"

// unlocks are the ways to seal a home, and what opens it then.
func unlocks(t *testing.T) map[string]Unlock {
	t.Helper()
	hybrid := filepath.Join(t.TempDir(), "unlock")
	l, err := keyring.NewMachineLocker(hybrid)
	if err != nil {
		t.Fatal(err)
	}
	l.Destroy()
	return map[string]Unlock{
		"machine":      {},
		"passphrase":   {PassphraseFile: unlockFile(t, passphrase)},
		"classic":      {IdentityFile: unlockFile(t, "# somebody's\n"+classicIdentity)},
		"post-quantum": {IdentityFile: hybrid},
	}
}

func loadBy(h Home, u Unlock) error {
	n, err := h.LoadNode(u, time.Now())
	if err == nil {
		n.Destroy()
	}
	return err
}

func reseal(t *testing.T, h Home, from, to Unlock) {
	t.Helper()
	if _, err := h.Reseal(from, to); err != nil {
		t.Fatal(err)
	}
}

// Each way to seal opens with itself, with what the service manager hands over
// instead, and with nothing else; and a keyring that is sealed again stays so.
func TestNodeOpensWithWhatItWasSealedWithAndNothingElse(t *testing.T) {
	all := unlocks(t)
	for name, to := range all {
		h := copyOf(t, homes(t).node)
		reseal(t, h, Unlock{}, to)
		n, err := h.LoadNode(to, time.Now())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := n.Keyring.Save(); err != nil {
			t.Errorf("%s: saving the keyring while the node runs: %v", name, err)
		}
		n.Destroy()
		for other, u := range all {
			if err := loadBy(h, u); (err == nil) != (other == name) {
				t.Errorf("sealed with %s, opened with %s: got %v", name, other, err)
			}
		}
		if to.Set() == exists(h.path(fileUnlock)) {
			t.Errorf("%s: a machine key is there: %v", name, !to.Set())
		}
		if !to.Set() {
			continue
		}
		handOver(t, to.PassphraseFile+to.IdentityFile)
		if err := loadBy(h, Unlock{}); err != nil {
			t.Errorf("%s, handed over by the service manager: %v", name, err)
		}
		t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir()) // of a service that is handed something else
		if err := loadBy(h, Unlock{}); err == nil {
			t.Errorf("%s: opened with nothing", name)
		}
	}
}

// A setting counts, whatever is handed over.
func TestSettingComesBeforeTheCredential(t *testing.T) {
	h, to := copyOf(t, homes(t).node), unlocks(t)["classic"]
	reseal(t, h, Unlock{}, to)
	handOver(t, unlockFile(t, "another passphrase altogether"))
	if err := loadBy(h, to); err != nil {
		t.Error(err)
	}
	err := loadBy(h, Unlock{})
	wantHint(t, err, keyring.ErrWrongKey, "--unlock-passphrase-file")
	if err != nil && !strings.Contains(err.Error(), credentialName) {
		t.Errorf("%v: it does not name what was tried", err)
	}
}

// Whoever is not let in is told by which file, which key, and who chose it.
func TestWrongUnlockSaysWhatWasTriedAndWhoChoseIt(t *testing.T) {
	all, h := unlocks(t), copyOf(t, homes(t).node)
	for name, want := range map[string]string{"passphrase": unlockPassphrase, "classic": unlockIdentity} {
		u := all[name]
		err := loadBy(h, u)
		wantHint(t, err, keyring.ErrWrongKey, "keys reseal")
		for _, part := range []string{h.path(fileSigningKey), u.PassphraseFile + u.IdentityFile, want} {
			if err != nil && !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v: it does not name %s", name, err, part)
			}
		}
	}
	reseal(t, h, Unlock{}, all["classic"])
	wantHint(t, loadBy(h, Unlock{}), ErrMissing, "--unlock-passphrase-file")
	wantHint(t, loadBy(h, Unlock{PassphraseFile: "nowhere"}), ErrMissing, "name what")
	if err := os.Chmod(all["passphrase"].PassphraseFile, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := loadBy(h, all["passphrase"]); !errors.Is(err, keyring.ErrPermissions) || !strings.Contains(err.Error(), unlockPassphrase) {
		t.Errorf("got %v, want %v and the setting", err, keyring.ErrPermissions)
	}
	for name, u := range map[string]Unlock{
		"both":  {PassphraseFile: "a", IdentityFile: "b"},
		"stdin": {PassphraseFile: "-"},
	} {
		if err := u.Check(); err == nil || loadBy(h, u) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A kill at any point leaves a node that what was before opens, or what is now.
func TestKilledResealLeavesANodeThatOpens(t *testing.T) {
	before, after := Unlock{}, unlocks(t)["classic"]
	steps := []struct {
		name string
		do   func(h Home) error
		want Unlock
	}{
		{"an empty folder", func(h Home) error { return os.Mkdir(h.path(nodeNew), 0o700) }, before},
		{"some files", func(h Home) error { return os.WriteFile(h.path(nodeNew+"/signing.key.age"), []byte("half"), 0o600) }, before},
		{"all files", func(h Home) error {
			from, err := h.unlock(before)
			if err != nil {
				return err
			}
			to, err := h.unlock(after)
			if err != nil {
				return err
			}
			return errors.Join(os.Remove(h.path(nodeNew+"/signing.key.age")), h.fillReseal(from, to.Locker))
		}, before},
		{"the first rename", func(h Home) error { return os.Rename(h.path("node"), h.path(nodeOld)) }, after},
		{"the second rename", func(h Home) error { return os.Rename(h.path(nodeNew), h.path("node")) }, after},
		{"a part of the old folder", func(h Home) error { return os.Remove(h.path(nodeOld + "/keyring.age")) }, after},
	}
	for killed := range steps {
		h := copyOf(t, homes(t).keeper)
		for _, step := range steps[:killed+1] {
			if err := step.do(h); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
		}
		if err := h.Sweep(); err != nil { // as an agent does at its start
			t.Fatal(err)
		}
		if err := loadBy(h, steps[killed].want); err != nil {
			t.Errorf("killed after %s: %v", steps[killed].name, err)
		}
		if exists(h.path(nodeNew)) || exists(h.path(nodeOld)) {
			t.Errorf("killed after %s: a folder is left", steps[killed].name)
		}
		if err := h.IssueNode(t.Context(), Home(t.TempDir()), NodeOrder{Name: "web-9", Unlock: steps[killed].want}, refuseToAsk, time.Now()); err != nil {
			t.Errorf("killed after %s: the issuer: %v", steps[killed].name, err)
		}
	}
}

// What cannot be sealed anew stays as it is.
func TestFailedResealChangesNothing(t *testing.T) {
	all := unlocks(t)
	for name, test := range map[string]struct {
		prepare  func(h Home) error
		from, to Unlock
		want     error
	}{
		"opened with something else": {nil, all["passphrase"], all["classic"], keyring.ErrWrongKey},
		"no such file":               {nil, Unlock{}, Unlock{PassphraseFile: "nowhere"}, ErrMissing},
		"a short passphrase":         {nil, Unlock{}, Unlock{PassphraseFile: unlockFile(t, "short")}, keyring.ErrPassphrase},
		"both":                       {nil, Unlock{}, Unlock{PassphraseFile: "a", IdentityFile: "b"}, keyring.ErrForeign},
		"damaged keyring": {func(h Home) error { return os.WriteFile(h.path(fileKeyring), []byte("x"), 0o600) },
			Unlock{}, all["classic"], keyring.ErrForeign},
		"a folder among the files": {func(h Home) error { return os.Mkdir(h.path("node/mine"), 0o700) }, Unlock{}, all["classic"], nil},
		"a client's home":          {func(h Home) error { return os.RemoveAll(h.path("node")) }, Unlock{}, all["classic"], ErrMissing},
		"a home that is not there": {func(h Home) error { return os.RemoveAll(string(h)) }, Unlock{}, all["classic"], ErrMissing},
	} {
		h := copyOf(t, homes(t).keeper)
		if test.prepare != nil {
			if err := test.prepare(h); err != nil {
				t.Fatal(err)
			}
		}
		var state map[string]string
		if exists(string(h)) {
			state = tree(t, string(h))
		}
		_, err := h.Reseal(test.from, test.to)
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		if state != nil {
			mustBe(t, string(h), state)
		}
	}
	h := copyOf(t, homes(t).keeper)
	state := tree(t, string(h))
	if _, err := h.Reseal(Unlock{}, Unlock{IdentityFile: h.path(fileUnlock)}); err == nil {
		t.Error("the machine key was taken for a file that stays: nothing would open the node any more")
	}
	mustBe(t, string(h), state)
}

func TestResealWaitsForNoAgent(t *testing.T) {
	h := copyOf(t, homes(t).node)
	lock, err := h.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	_, err = h.Reseal(Unlock{}, unlocks(t)["classic"])
	if err == nil || !strings.Contains(err.Error(), "another agent is running") {
		t.Errorf("got %v, want to be told of the agent", err)
	}
}

// What is no secret stays the very same file, and secrets stay ours alone.
func TestResealTakesEverythingAlong(t *testing.T) {
	h := copyOf(t, homes(t).keeper)
	state := tree(t, h.path("node"))
	reseal(t, h, Unlock{}, unlocks(t)["classic"])
	after := tree(t, h.path("node"))
	for name, was := range state {
		is, ok := after[name]
		sealed := strings.HasSuffix(name, ".age")
		switch {
		case name == filepath.Base(fileUnlock):
			if ok {
				t.Errorf("%s is left", name)
			}
		case !ok, (is == was) == sealed:
			t.Errorf("%s: it was sealed anew: %v, want %v", name, is != was, sealed)
		case sealed && !strings.HasPrefix(is, fs.FileMode(0o600).String()):
			t.Errorf("%s is %s", name, is[:10])
		}
	}
	if want := "keyring.age.prev"; !slices.Contains(namesOf(after), want) {
		t.Errorf("got %q, want a previous version too", namesOf(after))
	}
}

func namesOf(tree map[string]string) []string {
	var names []string
	for name := range tree {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// A keeper's epochs are still there after it was told to keep none.
func TestKeeperKeepsItsEpochsOnDisk(t *testing.T) {
	h := copyOf(t, homes(t).keeper)
	before := tree(t, string(h))
	_, err := h.LoadNodeInMemory(Unlock{}, time.Now())
	wantHint(t, err, ErrKeeper, "keyring: memory")
	mustBe(t, string(h), before)
}

func TestNodeInMemoryUsesTheEpochsOfItsHomeOnce(t *testing.T) {
	h, sealed := copyOf(t, homes(t).node), unlocks(t)["classic"]
	reseal(t, h, Unlock{}, sealed)
	for start, want := range []int{1, 0, 0} {
		n, err := h.LoadNodeInMemory(sealed, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if got := len(n.Keyring.Keyring().List()); got != want {
			t.Errorf("start %d: got %d epochs, want %d", start+1, got, want)
		}
		n.Destroy()
	}
	n, err := h.LoadNode(sealed, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Destroy()
	if got := n.Keyring.Keyring(); len(got.List()) != 0 || got.Knock() == nil {
		t.Errorf("without the setting it starts with %d epochs, want none and the knock secret", len(got.List()))
	}
}

// One passphrase for hosts of two clusters: what it opens may be the wrong one's all
// the same.
func TestKeyringOfAnotherClusterIsRefusedThoughItOpens(t *testing.T) {
	ours, theirs := copyOf(t, homes(t).keeper), copyOf(t, homes(t).foreign)
	shared := unlocks(t)["classic"]
	reseal(t, ours, Unlock{}, shared)
	reseal(t, theirs, Unlock{}, shared)
	put(t, ours, theirs, fileKeyring)
	wantHint(t, loadBy(ours, shared), pki.ErrForeign, "copy one whole home here")
	// A host of our own cluster has the same epochs.
	other := copyOf(t, homes(t).node)
	reseal(t, other, Unlock{}, shared)
	put(t, ours, other, fileKeyring)
	if err := loadBy(ours, shared); err != nil {
		t.Error(err)
	}
}
