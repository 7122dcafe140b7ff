//go:build unix

package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestSecretFileIsOursAlone(t *testing.T) {
	const root, us, other = 0, 1000, 1001
	for _, test := range []struct {
		name        string
		mode        fs.FileMode
		owner, self int
		want        string // "" is accepted
	}{
		{"ours", 0o600, us, us, ""},
		{"ours, read-only", 0o400, us, us, ""},
		{"root's, read by us", 0o600, root, us, ""},
		{"root's, read by root", 0o600, root, root, ""},
		{"setuid bit says nothing of reading", 0o600 | fs.ModeSetuid, us, us, ""},
		{"another's", 0o600, other, us, "belongs to user 1001; run: chown 1000"},
		{"another's, read by root", 0o600, other, root, "belongs to user 1001; run: chown 0"},
		{"unknown owner", 0o600, -1, us, "belongs to user -1"},
		{"group may read", 0o640, us, us, "mode 0640 lets others at it; run: chmod 600"},
		{"group may write", 0o620, us, us, "chmod 600"},
		{"group may execute", 0o610, us, us, "chmod 600"},
		{"others may read", 0o604, us, us, "chmod 600"},
		{"others may write", 0o602, us, us, "chmod 600"},
		{"others may execute", 0o601, us, us, "chmod 600"},
		{"root's, others may read", 0o644, root, us, "mode 0644"},
		{"directory", fs.ModeDir | 0o700, us, us, "not a regular file"},
		{"pipe", fs.ModeNamedPipe | 0o600, us, us, "not a regular file"},
		{"socket", fs.ModeSocket | 0o600, us, us, "not a regular file"},
		{"device", fs.ModeDevice | 0o600, us, us, "not a regular file"},
		{"symbolic link", fs.ModeSymlink | 0o600, us, us, "symbolic link"},
	} {
		err := checkSecret("a path", test.mode, test.owner, test.self)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: got %v, want it accepted", test.name, err)
		case test.want == "":
		case !errors.Is(err, ErrPermissions):
			t.Errorf("%s: got %v, want ErrPermissions", test.name, err)
		case !strings.HasPrefix(err.Error(), `"a path": `) || !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: got %q, want the path and %q", test.name, err, test.want)
		}
	}
}

// What systemd hands to a service of an ordinary user is root's, and shows that the
// group may read. Nothing else is let through by that.
func TestCredentialMayBeRootsWithAnAccessList(t *testing.T) {
	for _, test := range []struct {
		mode        fs.FileMode
		owner, self int
		ok          bool
	}{
		{0o440, 0, 1000, true}, {0o400, 0, 1000, true}, {0o400, 0, 0, true}, {0o400, 1000, 1000, true},
		{0o440, 0, 0, false}, {0o440, 1000, 1000, false}, {0o440, 1001, 1000, false}, {0o400, 1001, 1000, false},
		{0o460, 0, 1000, false}, {0o450, 0, 1000, false}, {0o444, 0, 1000, false}, {0o442, 0, 1000, false},
		{0o440 | fs.ModeSymlink, 0, 1000, false}, {0o440 | fs.ModeDir, 0, 1000, false}, {0o440 | fs.ModeNamedPipe, 0, 1000, false},
	} {
		if err := checkCredential("unlock", test.mode, test.owner, test.self); (err == nil) != test.ok {
			t.Errorf("%v of user %d, for user %d: got %v, want it accepted: %v", test.mode, test.owner, test.self, err, test.ok)
		}
	}
}

// The same on real files, for every reader of the package. It holds for root and
// for an ordinary user; only the foreign owner takes root to make.
func TestEveryReaderRefusesUnsafeFiles(t *testing.T) {
	dir := t.TempDir()
	locker := newTestMachine(t)
	readers := map[string]func(path string) error{
		"CheckSecretFile":   CheckSecretFile,
		"OpenMachineLocker": func(path string) error { _, err := OpenMachineLocker(path); return err },
		"OpenIdentity":      func(path string) error { _, err := OpenIdentityLocker(path); return err },
		"OpenPassphrase":    func(path string) error { _, err := OpenPassphraseLocker(path); return err },
		"OpenCredential":    func(path string) error { _, err := OpenCredentialLocker(path); return err },
		"ReadClientKeyFile": func(path string) error { _, err := ReadClientKeyFile(path); return err },
		"ReadFile":          func(path string) error { _, err := locker.ReadFile(path); return err },
		"LoadSigningKey":    func(path string) error { _, err := LoadSigningKey(path, locker); return err },
		"LoadAgreementKey":  func(path string) error { _, err := LoadAgreementKey(path, locker); return err },
		"OpenFile":          func(path string) error { _, err := OpenFile(path, locker); return err },
	}
	good := filepath.Join(dir, "good")
	if err := os.WriteFile(good, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckSecretFile(good); err != nil {
		t.Fatalf("a safe file: %v", err)
	}
	for name, prepare := range map[string]func(path string) error{
		"group-readable": func(path string) error {
			return errors.Join(os.WriteFile(path, []byte("content"), 0o600), os.Chmod(path, 0o640))
		},
		"world-readable": func(path string) error {
			return errors.Join(os.WriteFile(path, []byte("content"), 0o600), os.Chmod(path, 0o604))
		},
		"symbolic link":          func(path string) error { return os.Symlink(good, path) },
		"dangling symbolic link": func(path string) error { return os.Symlink(filepath.Join(dir, "nothing"), path) },
		"directory":              func(path string) error { return os.Mkdir(path, 0o700) },
		"pipe without a writer":  func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"foreign owner": func(path string) error {
			if os.Geteuid() != 0 {
				return os.Symlink(good, path) // cannot be made; the rule has its own test
			}
			return errors.Join(os.WriteFile(path, []byte("content"), 0o600), os.Chown(path, 65534, 65534))
		},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := prepare(path); err != nil {
			t.Fatal(err)
		}
		for reader, read := range readers {
			err := read(path)
			if !errors.Is(err, ErrPermissions) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s of a %s: got %v, want ErrPermissions and the path", reader, name, err)
			}
		}
	}
	for reader, read := range readers {
		err := read(filepath.Join(dir, "missing"))
		if want := fmt.Sprintf("%q: no such file", filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s of a missing file: got %v, want fs.ErrNotExist and %s", reader, err, want)
		}
	}
}

func TestEveryReaderHasASizeLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "huge")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	locker := newTestMachine(t)
	for _, size := range []int64{maxPlaintext + 1, maxFileSize + 1, 1 << 40} { // sparse: it takes no space
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		_, sealedErr := locker.ReadFile(path)
		_, plainErr := ReadClientKeyFile(path)
		_, machineErr := OpenMachineLocker(path)
		_, identityErr := OpenIdentityLocker(path)
		_, passphraseErr := OpenPassphraseLocker(path)
		_, credentialErr := OpenCredentialLocker(path)
		_, fileErr := OpenFile(path, locker)
		for name, err := range map[string]error{
			"sealed": sealedErr, "keyring": fileErr, "check": CheckSecretFile(path),
			"client key": plainErr, "machine key": machineErr, "identity": identityErr, "passphrase": passphraseErr, "credential": credentialErr,
		} {
			unsealed := name != "sealed" && name != "keyring" && name != "check"
			if want := unsealed || size > maxFileSize; errors.Is(err, ErrTooLarge) != want {
				t.Errorf("%s of %d bytes: got %v, want ErrTooLarge: %v", name, size, err, want)
			}
		}
	}
}

// Every writer of a new file: 0600 whatever the umask says, nothing overwritten,
// nothing left behind.
func TestEveryWriterRefusesToOverwrite(t *testing.T) {
	locker, key, agreement := newTestMachine(t), must(NewSigningKey())(t), must(NewAgreementKey())(t)
	defer key.Destroy()
	defer agreement.Destroy()
	writers := map[string]func(path string) error{
		"NewMachineLocker":   func(path string) error { _, err := NewMachineLocker(path); return err },
		"WriteClientKeyFile": func(path string) error { return WriteClientKeyFile(path, key) },
		"WriteFile":          func(path string) error { return locker.WriteFile(path, []byte("plaintext")) },
		"StoreSigningKey":    func(path string) error { return StoreSigningKey(path, locker, key) },
		"StoreAgreementKey":  func(path string) error { return StoreAgreementKey(path, locker, agreement) },
		"CreateFile":         func(path string) error { _, err := CreateFile(path, locker, newTestKeyring(t, 1)); return err },
	}
	for name, write := range writers {
		path := filepath.Join(t.TempDir(), "new")
		if err := write(path); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := CheckSecretFile(path); err != nil {
			t.Errorf("%s wrote an unsafe file: %v", name, err)
		}
		if mode := must(os.Stat(path))(t).Mode(); mode != 0o600 {
			t.Errorf("%s: mode %v, want 0600", name, mode)
		}
		wantFiles(t, path, "new")
		before := must(os.ReadFile(path))(t)
		if err := write(path); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s over a file: got %v, want ErrExists and the path", name, err)
		}
		if string(must(os.ReadFile(path))(t)) != string(before) {
			t.Errorf("%s changed a file that exists", name)
		}
		wantFiles(t, path, "new")

		for what, prepare := range map[string]func(path string) error{
			"directory":              func(path string) error { return os.Mkdir(path, 0o700) },
			"dangling symbolic link": func(path string) error { return os.Symlink("nothing", path) },
			"unreadable file":        func(path string) error { return os.WriteFile(path, nil, 0) },
		} {
			path := filepath.Join(t.TempDir(), "taken")
			if err := prepare(path); err != nil {
				t.Fatal(err)
			}
			if err := write(path); !errors.Is(err, ErrExists) {
				t.Errorf("%s over a %s: got %v, want ErrExists", name, what, err)
			}
			wantFiles(t, path, "taken")
		}
		if err := write(filepath.Join(t.TempDir(), "no", "such", "directory")); !errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), ".tmp-") {
			t.Errorf("%s into a missing directory: got %v, want fs.ErrNotExist and the path", name, err)
		}
	}
}

// Between the look and the write somebody else may have made the file.
func TestCreateNeverReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new")
	s := must(stage(path, []byte("ours")))(t)
	if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.create(); !errors.Is(err, ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
	s.discard()
	if got := string(must(os.ReadFile(path))(t)); got != "theirs" {
		t.Errorf("got %q, want theirs untouched", got)
	}
	wantFiles(t, path, "new")
}

// A full disk, played by a limit on the size of files.
func TestShortWriteLeavesNothingBehind(t *testing.T) {
	path, l, f := newTestFile(t, 1)
	if !inChild(t) {
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 100, Max: 100}); err != nil {
		t.Fatal(err)
	}
	if err := f.Update(install(2, t)); !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), path) {
		t.Errorf("Update: got %v, want EFBIG and the path", err)
	}
	if err := l.WriteFile(path+".new", []byte("secret")); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("WriteFile: got %v, want EFBIG", err)
	}
	if got := reopened(t, path, l); got != "1*" || numbers(f.Keyring()) != "1*" {
		t.Errorf("got %q on disk and %q in memory, want them unchanged", got, numbers(f.Keyring()))
	}
	wantFiles(t, path, "keyring.age")
}

func TestOnlyTemporaryFilesOfTheKeyringAreRemoved(t *testing.T) {
	folder := t.TempDir()
	keep := []string{"keyring.age", "keyring.age.prev", "keyring.age.old.tmp-1", "other.age.tmp-1", "keyring.age.tmp", "xkeyring.age.tmp-1"}
	for _, name := range append([]string{"keyring.age.tmp-1", "keyring.age.tmp-234", "keyring.age.prev.tmp-5"}, keep...) {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveTemporary(filepath.Join(folder, "keyring.age")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(keep) {
		t.Errorf("got %v, want %q", entries, keep)
	}
	for _, name := range keep {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Error(err)
		}
	}
	if err := RemoveTemporary(filepath.Join(folder, "missing", "keyring.age")); err == nil {
		t.Error("a folder that is not there was swept")
	}
}
