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
	"github.com/secgossip/secgossip/rpcauth"
)

// What a node and a client cannot do without.
var (
	nodeFiles   = []string{fileBundle, fileUnlock, fileNodeCert, fileNodeCred, fileSigningKey, fileAgreementKey, fileKeyring}
	clientFiles = []string{fileBundle, fileClientCert, fileClientKey, fileClientToken}
	secretFiles = []string{fileUnlock, fileSigningKey, fileAgreementKey, fileKeyring, fileIssuerKey, fileRootKey, fileClientKey, fileClientToken}
)

func loadNode(h Home) error   { _, err := h.LoadNode(Unlock{}, time.Now()); return err }
func loadClient(h Home) error { _, err := h.LoadClient(time.Now()); return err }

// eachFile runs a test for every file a node or a client needs, on a copy.
func eachFile(t *testing.T, test func(t *testing.T, h Home, name string, load func(Home) error)) {
	f := homes(t)
	for _, kind := range []struct {
		name  string
		home  Home
		files []string
		load  func(Home) error
	}{{"node", f.node, nodeFiles, loadNode}, {"client", f.client, clientFiles, loadClient}} {
		for _, name := range kind.files {
			t.Run(kind.name+"/"+name, func(t *testing.T) { test(t, copyOf(t, kind.home), name, kind.load) })
		}
	}
}

func TestWhatIsMadeLoads(t *testing.T) {
	f := homes(t)
	keeper, err := f.keeper.LoadNode(Unlock{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	node, err := f.node.LoadNode(Unlock{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if !keeper.Credential.HasRole(pki.RoleKeeper) || node.Credential.HasRole(pki.RoleKeeper) {
		t.Error("web-1 is to be a keeper, and web-2 none")
	}
	got, want := node.Keyring.Keyring().Primary(), keeper.Keyring.Keyring().Primary()
	if got.Number != 1 || got.Secret.Commitment() != want.Secret.Commitment() {
		t.Errorf("web-2 holds epoch %d, %s, want that of web-1: %d, %s", got.Number, got.Secret, want.Number, want.Secret)
	}
	for h, name := range map[Home]pki.Name{f.keeper: "operator", f.client: "alice"} {
		client, err := h.LoadClient(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := client.CheckToken(time.Now()); err != nil || client.Name != name {
			t.Errorf("got client %q and %v, want %q and no error", client.Name, err, name)
		}
	}
}

func TestOnlyTheOwnerReadsSecrets(t *testing.T) {
	f := homes(t)
	for name, state := range tree(t, string(f.keeper)) {
		mode := strings.Fields(state)[0]
		want := "drwx------"
		switch {
		case slices.Contains(secretFiles, filepath.ToSlash(name)):
			want = "-rw-------"
		case mode[0] == '-':
			want = strings.ReplaceAll(mode[3:], "w", "-") // nobody else writes
			mode = mode[3:]
		}
		if mode != want {
			t.Errorf("%s is %s, want %s", name, mode, want)
		}
	}
}

// The root never travels, nor does a keeper's issuer, nor a client's key.
func TestNobodyGetsWhatIsNotTheirs(t *testing.T) {
	f := homes(t)
	for h, not := range map[Home][]string{
		f.node:   {"ca", "client", fileIssuerCert, fileIssuerKey},
		f.client: {"ca", "node", "runner", "state"},
	} {
		for _, name := range not {
			if exists(h.path(name)) {
				t.Errorf("%s holds %s", h, name)
			}
		}
	}
}

func TestHalfAHomeIsRefused(t *testing.T) {
	eachFile(t, func(t *testing.T, h Home, name string, load func(Home) error) {
		if err := os.Remove(h.path(name)); err != nil {
			t.Fatal(err)
		}
		err := load(h)
		wantHint(t, err, ErrMissing, "secgossip pki issue")
		if err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("%v: it does not name %s", err, name)
		}
	})
}

func TestDamageIsRefusedWithANextStep(t *testing.T) {
	for what, damage := range map[string]func(content []byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"first":     func(content []byte) []byte { return content[:1] },
		"half":      func(content []byte) []byte { return content[:len(content)/2] },
		"not ended": func(content []byte) []byte { return content[:len(content)-2] },
		"altered":   func(content []byte) []byte { content[len(content)*2/3] ^= 4; return content },
		"twice":     func(content []byte) []byte { return append(content, content...) },
		"zeros":     func(content []byte) []byte { return make([]byte, len(content)) },
	} {
		t.Run(what, func(t *testing.T) {
			eachFile(t, func(t *testing.T, h Home, name string, load func(Home) error) {
				if name == fileUnlock && what == "altered" {
					return // there, it is a remark
				}
				content, err := os.ReadFile(h.path(name))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(h.path(name), damage(slices.Clone(content)), 0o600); err != nil {
					t.Fatal(err)
				}
				if err = load(h); err == nil && name == fileClientToken {
					err = tokenError(t, h)
				}
				if err == nil || hintOf(err) == "" {
					t.Errorf("got %v with the hint %q, want an error with one", err, hintOf(err))
				}
				if err != nil && strings.Contains(err.Error(), string(content)) {
					t.Errorf("the error repeats the file")
				}
			})
		})
	}
}

// tokenError is what a client can see to be wrong with its token.
func tokenError(t *testing.T, h Home) error {
	t.Helper()
	client, err := h.LoadClient(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return client.CheckToken(time.Now())
}

// Parts of another cluster, one at a time: none passes unnoticed.
func TestPartsOfAnotherClusterAreRefused(t *testing.T) {
	eachFile(t, func(t *testing.T, h Home, name string, load func(Home) error) {
		put(t, h, homes(t).foreign, name)
		err := load(h)
		if err == nil && name == fileClientToken {
			err = tokenError(t, h)
		}
		if err == nil || !strings.Contains(hintOf(err), "copy one whole home here") {
			t.Errorf("got %v with the hint %q, want to be told that this is from several homes", err, hintOf(err))
		}
	})
}

// The same with parts of another host of this cluster; the bundle is everybody's.
func TestPartsOfAnotherHostAreRefused(t *testing.T) {
	eachFile(t, func(t *testing.T, h Home, name string, load func(Home) error) {
		put(t, h, homes(t).keeper, name)
		err := load(h)
		if err == nil && name == fileClientToken {
			err = tokenError(t, h)
		}
		if name == fileBundle {
			if err != nil {
				t.Errorf("got %v, want the bundle to be the same on all hosts", err)
			}
			return
		}
		if err == nil || !strings.Contains(hintOf(err), "copy one whole home here") {
			t.Errorf("got %v with the hint %q, want to be told that this is from several homes", err, hintOf(err))
		}
	})
}

// A whole node of another cluster beside our bundle is just as foreign.
func TestAWholeForeignNodeIsRefused(t *testing.T) {
	h := copyOf(t, homes(t).node)
	for _, name := range nodeFiles[1:] {
		put(t, h, homes(t).foreign, name)
	}
	wantHint(t, loadNode(h), pki.ErrForeign, "copy one whole home here")
}

func TestSecretsThatOthersCouldReachAreRefused(t *testing.T) {
	eachFile(t, func(t *testing.T, h Home, name string, load func(Home) error) {
		if !slices.Contains(secretFiles, name) {
			return
		}
		for _, bit := range []os.FileMode{0o040, 0o020, 0o010, 0o004, 0o002, 0o001} {
			if err := os.Chmod(h.path(name), 0o600|bit); err != nil {
				t.Fatal(err)
			}
			if err := load(h); !errors.Is(err, keyring.ErrPermissions) || !strings.Contains(err.Error(), "chmod 600") {
				t.Errorf("mode %04o: got %v, want %v and the fix", 0o600|bit, err, keyring.ErrPermissions)
			}
		}
	})
}

// Keys that open, and are not those that were certified.
func TestOtherKeysThanTheCertifiedOnesAreRefused(t *testing.T) {
	for name, store := range map[string]func(path string, l *keyring.Locker) error{
		fileSigningKey: func(path string, l *keyring.Locker) error {
			key, err := keyring.NewSigningKey()
			return errors.Join(err, keyring.StoreSigningKey(path, l, key))
		},
		fileAgreementKey: func(path string, l *keyring.Locker) error {
			key, err := keyring.NewAgreementKey()
			return errors.Join(err, keyring.StoreAgreementKey(path, l, key))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := copyOf(t, homes(t).node)
			locker, err := h.unlock(Unlock{})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Remove(h.path(name)), store(h.path(name), locker.Locker)); err != nil {
				t.Fatal(err)
			}
			wantHint(t, loadNode(h), pki.ErrMismatch, "copy one whole home here")
		})
	}
}

// A token is bound to a key, and not to a name.
func TestATokenForAnotherKeyOfTheSameNameIsSeen(t *testing.T) {
	f := homes(t)
	h, again := copyOf(t, f.client), Home(filepath.Join(t.TempDir(), "again"))
	order := ClientOrder{Name: "alice", Grants: []rpcauth.Grant{"event:deploy"}}
	if err := f.keeper.IssueClient(t.Context(), again, order, refuseToAsk, time.Now()); err != nil {
		t.Fatal(err)
	}
	put(t, h, again, fileClientToken)
	wantHint(t, tokenError(t, h), pki.ErrMismatch, "copy one whole home here")
}

// Whoever can write to the bundle decides whom this host trusts.
func TestABundleThatOthersCouldWriteIsRefused(t *testing.T) {
	for _, what := range []string{fileBundle, "."} {
		for _, bit := range []os.FileMode{0o020, 0o002} {
			h := copyOf(t, homes(t).node)
			if err := os.Chmod(h.path(what), 0o700|bit); err != nil {
				t.Fatal(err)
			}
			if err := loadNode(h); !errors.Is(err, keyring.ErrPermissions) || !strings.Contains(err.Error(), "chmod go-w") {
				t.Errorf("%s with mode %04o: got %v, want %v and the fix", what, 0o700|bit, err, keyring.ErrPermissions)
			}
		}
	}
}

func TestIdentitiesAreGoodInTheirTimeOnly(t *testing.T) {
	f := homes(t)
	for _, test := range []struct {
		name string
		at   time.Time
		want error
		hint string
	}{
		{"after", time.Now().Add(NodeLife + time.Hour), pki.ErrExpired, "set the clock"},
		{"before", time.Now().Add(-time.Hour), pki.ErrNotYetValid, "set the clock of this host"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := f.node.LoadNode(Unlock{}, test.at)
			wantHint(t, err, test.want, test.hint)
			_, err = f.client.LoadClient(test.at)
			wantHint(t, err, test.want, test.hint)
			client, err := f.client.LoadClient(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			wantHint(t, client.CheckToken(test.at), test.want, test.hint)
		})
	}
}

func TestAKeyringThatWasHalfWrittenIsReadFromBefore(t *testing.T) {
	h := copyOf(t, homes(t).node)
	if err := os.Rename(h.path(fileKeyring), h.path(fileKeyring)+".prev"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.path(fileKeyring), []byte("age-encryption.org/v1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	node, err := h.LoadNode(Unlock{}, time.Now())
	if err != nil || !node.Keyring.Recovered() {
		t.Errorf("got %v, want the previous version", err)
	}
}

func TestMissingHomesSayHowToMakeOne(t *testing.T) {
	h := Home(filepath.Join(t.TempDir(), "home"))
	for what, err := range map[string]error{"node": loadNode(h), "client": loadClient(h)} {
		t.Run(what, func(t *testing.T) { wantHint(t, err, ErrMissing, "`secgossip init --cluster NAME --node NAME`") })
	}
	wantHint(t, loadNode(homes(t).client), ErrMissing, "the home of a client")
	wantHint(t, loadClient(homes(t).node), ErrMissing, "secgossip pki issue client")
}

func TestOneAgentAtATime(t *testing.T) {
	h := Home(t.TempDir())
	before := tree(t, string(h))
	first, err := h.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Lock(); err == nil || hintOf(err) == "" {
		t.Errorf("got %v with the hint %q, want to be told that another agent runs", err, hintOf(err))
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := h.Lock()
	if err != nil {
		t.Fatalf("after the first has ended: got %v", err)
	}
	defer again.Close()
	mustBe(t, string(h), before)
	if _, err := Home(filepath.Join(string(h), "nothing")).Lock(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
}

// An agent that is killed while it starts a process leaves its lock with that for a
// moment.
func TestLockWaitsForOneThatIsAboutToBeLetGo(t *testing.T) {
	h := Home(t.TempDir())
	first, err := h.Lock()
	if err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(lockTime/20, func() { first.Close() })
	defer timer.Stop()
	second, err := h.Lock()
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

func TestTheHomeIsFoundWhereTheDocumentsSay(t *testing.T) {
	t.Setenv("SECGOSSIP_HOME", filepath.Join("some", "where"))
	if got, err := Default(); err != nil || got != Home(filepath.Join("some", "where")) {
		t.Errorf("got %q, %v, want $SECGOSSIP_HOME", got, err)
	}
	t.Setenv("SECGOSSIP_HOME", "")
	t.Setenv("HOME", filepath.Join("some", "body"))
	want := Home(filepath.Join("some", "body", ".config", "secgossip"))
	if os.Geteuid() == 0 {
		want = "/etc/secgossip"
	}
	if got, err := Default(); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
