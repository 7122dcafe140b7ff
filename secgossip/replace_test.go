package secgossip

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplacedFileIsTheOneThatIsOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	// What a crash left behind is in nobody's way.
	if err := os.WriteFile(path+".new", []byte("half of a"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"the first", "2nd"} {
		file, err := replaceFile(path, []byte(content))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt([]byte("+"), int64(len(content))); err != nil {
			t.Error(err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(path); string(got) != content+"+" {
			t.Errorf("got %q, %v, want %q", got, err, content+"+")
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got mode %v, %v, want 0600", info.Mode(), err)
		}
	}
	if _, err := os.Stat(path + ".new"); !os.IsNotExist(err) {
		t.Errorf("got %v, want no temporary file", err)
	}
}

func TestFileThatCannotBeReplacedStaysAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	// A file does not take the place of a folder.
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(path, []byte("x")); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v, want the folder alone", entries, err)
	}
	if err := writeFile(filepath.Join(path, "missing", "file"), nil); err == nil {
		t.Error("a file was written to a folder that is not there")
	}
}
