package keyring

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/awnumar/memguard"
)

func TestMain(m *testing.M) {
	// memguard sets itself up on first use; do that before any test runs in a
	// bubble of virtual time.
	memguard.NewBuffer(1).Destroy()
	os.Exit(m.Run())
}

// inChild runs the calling test once more in a process of its own, reports what
// comes of it, and returns whether this is that process. It is for tests that
// change or examine the whole process.
func inChild(t *testing.T) bool {
	t.Helper()
	const variable = "KEYRING_TEST_CHILD"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	child := exec.Command(must(os.Executable())(t), "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), variable+"="+t.Name())
	output, err := child.CombinedOutput()
	switch {
	case err != nil:
		t.Errorf("%v in a process of its own:\n%s", err, output)
	case bytes.Contains(output, []byte("--- SKIP")):
		t.Skipf("in a process of its own:\n%s", output)
	case !bytes.Contains(output, []byte("--- PASS: "+t.Name())):
		t.Errorf("did not run in a process of its own:\n%s", output)
	}
	return false
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func newTestSecret(t testing.TB, fill byte) *Secret {
	t.Helper()
	s := must(SecretFrom(bytes.Repeat([]byte{fill}, SecretSize)))(t)
	t.Cleanup(s.Destroy)
	return s
}

func newTestMachine(t testing.TB) *Locker {
	t.Helper()
	l := must(NewMachineLocker(filepath.Join(t.TempDir(), "machine.key")))(t)
	t.Cleanup(l.Destroy)
	return l
}

// newTestUnlock opens a file with this text.
func newTestUnlock(t testing.TB, open func(path string) (*Locker, error), text string) *Locker {
	t.Helper()
	path := filepath.Join(t.TempDir(), "unlock")
	write(t, path, []byte(text))
	l := must(open(path))(t)
	t.Cleanup(l.Destroy)
	return l
}

func newTestClassic(t testing.TB) *Locker {
	t.Helper()
	return newTestUnlock(t, OpenIdentityLocker, must(age.GenerateX25519Identity())(t).String())
}

// newTestPassphrase is below the floor: 32 MiB a file are for one test only.
func newTestPassphrase(t testing.TB, passphrase string) *Locker {
	t.Helper()
	l := must(PassphraseLocker([]byte(passphrase), minWorkFactor))(t)
	l.workFactor = 2
	t.Cleanup(l.Destroy)
	return l
}

// testTime has a fraction and a zone, which a file keeps neither of.
var testTime = time.Date(2026, 11, 23, 15, 4, 5, 6, time.FixedZone("east", 3600))

// newTestKeyring holds epochs 1 to n, and n is the primary.
func newTestKeyring(t testing.TB, n byte) *Keyring {
	t.Helper()
	k := New(newTestSecret(t, 0xf0))
	t.Cleanup(k.Destroy)
	for i := byte(1); i <= n; i++ {
		e := Epoch{Number: uint64(i), Created: testTime, Statement: []byte{i, i}, Secret: newTestSecret(t, i)}
		if err := k.Install(e); err != nil {
			t.Fatal(err)
		}
	}
	if n > 0 {
		if err := k.Use(uint64(n)); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// numbers says which epochs a keyring holds, the primary with a star.
func numbers(k *Keyring) string {
	var out []string
	for _, info := range k.List() {
		star := ""
		if info.Primary {
			star = "*"
		}
		out = append(out, string('0'+byte(info.Number))+star)
	}
	return strings.Join(out, " ")
}

// wantFiles fails unless the directory of path holds these names and no others.
func wantFiles(t testing.TB, path string, names ...string) {
	t.Helper()
	var got []string
	for _, entry := range must(os.ReadDir(filepath.Dir(path)))(t) {
		got = append(got, entry.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("files: got %q, want %q", got, names)
	}
}
