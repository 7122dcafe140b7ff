package keyring

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A file system of 64 KiB that is filled up to its last byte: the keyring stays as it
// was, on disk too, with every page less until it fits. Nothing is ever half written.
func TestFullDiskKeepsTheWholeOldVersion(t *testing.T) {
	folder := t.TempDir()
	if err := syscall.Mount("none", folder, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Skipf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
	path, l := filepath.Join(folder, "keyring.age"), newTestMachine(t)
	f := must(CreateFile(path, l, newTestKeyring(t, 2)))(t)
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	before := must(os.ReadFile(path))(t)
	statement := bytes.Repeat([]byte{'s'}, MaxStatement) // so that a version takes three pages
	change := func(draft *Keyring) error {
		return draft.Install(Epoch{Number: 3, Statement: statement, Secret: newTestSecret(t, 3)})
	}
	filler := filepath.Join(folder, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want the disk to be full", err)
	}
	refused, left := 0, must(os.Stat(filler))(t).Size()
	for ; left > 0; left -= int64(os.Getpagesize()) {
		if err := os.Truncate(filler, left); err != nil {
			t.Fatal(err)
		}
		err := f.Update(change)
		if err == nil {
			break
		}
		refused++
		if !errors.Is(err, syscall.ENOSPC) || numbers(f.Keyring()) != "1 2*" || reopened(t, path, l) != "1 2*" {
			t.Errorf("with %d bytes taken: got %v, %q in memory and %q on disk", left, err, numbers(f.Keyring()), reopened(t, path, l))
		}
		if !bytes.Equal(must(os.ReadFile(path))(t), before) {
			t.Error("the file has changed")
		}
		wantFiles(t, path, "filler", "keyring.age", "keyring.age.prev")
	}
	if refused == 0 || left <= 0 || numbers(f.Keyring()) != "1 2* 3" || reopened(t, path, l) != "1 2* 3" {
		t.Errorf("refused %d times, then %q in memory and %q on disk, want some, and then epoch 3 in both",
			refused, numbers(f.Keyring()), reopened(t, path, l))
	}
}
