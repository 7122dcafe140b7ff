//go:build unix

package home

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/secgossip/secgossip/keyring"
)

// info is a file's state for checkTrusted.
type info struct {
	fs.FileInfo
	mode  fs.FileMode
	owner uint32
}

func (i info) Mode() fs.FileMode { return i.mode }
func (i info) IsDir() bool       { return i.mode.IsDir() }
func (i info) Sys() any          { return &syscall.Stat_t{Uid: i.owner} }

// folder is one in which nobody else can write, whatever the umask.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOnlyRootAndWeDecide(t *testing.T) {
	const self, other = 1000, 1001
	tests := []struct {
		name string
		info info
		want string // the fix; none when it is to be trusted
	}{
		{"ours", info{mode: 0o644, owner: self}, ""},
		{"ours alone", info{mode: 0o600, owner: self}, ""},
		{"root's", info{mode: 0o644, owner: 0}, ""},
		{"root's, executable", info{mode: 0o755, owner: 0}, ""},
		{"somebody's", info{mode: 0o644, owner: other}, "chown 1000"},
		{"somebody's alone", info{mode: 0o400, owner: other}, "chown 1000"},
		{"the group writes", info{mode: 0o664, owner: self}, "chmod go-w"},
		{"all write", info{mode: 0o646, owner: self}, "chmod go-w"},
		{"all write root's", info{mode: 0o666, owner: 0}, "chmod go-w"},
		{"a sticky file", info{mode: fs.ModeSticky | 0o666, owner: self}, "chmod go-w"},
		{"our folder", info{mode: fs.ModeDir | 0o755, owner: self}, ""},
		{"an open folder", info{mode: fs.ModeDir | 0o777, owner: self}, "chmod go-w"},
		{"root's sticky folder", info{mode: fs.ModeDir | fs.ModeSticky | 0o777, owner: 0}, ""},
		{"somebody's sticky folder", info{mode: fs.ModeDir | fs.ModeSticky | 0o777, owner: other}, "chown 1000"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := checkTrusted("file", test.info, self)
			switch {
			case test.want == "":
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
			case !errors.Is(err, keyring.ErrPermissions) || !strings.Contains(err.Error(), test.want):
				t.Errorf("got %v, want %v with %q", err, keyring.ErrPermissions, test.want)
			}
		})
	}
}

func TestWhatDecidesIsARegularFile(t *testing.T) {
	dir := folder(t)
	folder, pipe := filepath.Join(dir, "folder"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.Mkdir(folder, 0o755), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{folder, pipe, os.DevNull} {
		if _, err := OpenTrusted(path); !errors.Is(err, keyring.ErrPermissions) {
			t.Errorf("%s: got %v, want %v", path, err, keyring.ErrPermissions)
		}
	}
	for _, path := range []string{filepath.Join(dir, "nothing"), filepath.Join(dir, "no", "thing")} {
		if _, err := OpenTrusted(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want %v", path, err, fs.ErrNotExist)
		}
	}
}

// A link is as safe as what it leads to and where that is.
func TestALinkToWhatOthersCouldWriteIsRefused(t *testing.T) {
	dir := folder(t)
	open, file, link := filepath.Join(dir, "open"), filepath.Join(dir, "open", "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(open, 0o755), os.Chmod(open, 0o755), os.WriteFile(file, nil, 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	trusted, err := OpenTrusted(link)
	if err != nil {
		t.Fatal(err)
	}
	trusted.Close()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTrusted(link); !errors.Is(err, keyring.ErrPermissions) {
		t.Errorf("got %v, want %v", err, keyring.ErrPermissions)
	}
}
