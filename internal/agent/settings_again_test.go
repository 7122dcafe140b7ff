package agent

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secgossip/secgossip/internal/home"
)

// Half a settings file never takes handlers away.
func TestHalfWrittenSettingsAreNotUsed(t *testing.T) {
	const whole = "handlers:\n- {name: one, run: a}\n- {name: two, run: b}\n"
	const half = "handlers:\n- {name: one, run: a}\n"
	path := filepath.Join(t.TempDir(), "config.yaml")
	write := func(content string) {
		t.Helper()
		check(t, os.WriteFile(path, []byte(content), 0o600))
	}
	for what, test := range map[string]struct {
		change func()
		want   int // handlers; 0: it is refused
	}{
		"as it was":         {func() {}, 2},
		"fewer":             {func() { write(half) }, 1},
		"none, and says so": {func() { write("handlers: []\n") }, -1},
		"empty":             {func() { write("") }, 0},
		"a remark":          {func() { write("# handlers:\n") }, 0},
		"gone":              {func() { check(t, os.Remove(path)) }, 0},
		"cut in a line":     {func() { write(whole[:len(whole)-5]) }, 0},
		"half at first": {func() {
			write(half)
			go func() {
				time.Sleep(settleTime / 2)
				write(whole)
			}()
		}, 2},
		"never whole": {func() {
			go func() {
				for i := range 2 * settleTries {
					write(whole[:len(half)+i%2])
					time.Sleep(settleTime / 2)
					write(whole[:i])
					time.Sleep(settleTime / 2)
				}
			}()
		}, 0},
	} {
		t.Run(what, func(t *testing.T) {
			write(whole)
			f := NewSettingsFile(home.Home(filepath.Dir(path)), "")
			if settings, err := f.Read(); err != nil || len(settings.Handlers) != 2 {
				t.Fatalf("got %+v, %v", settings, err)
			}
			synctest.Test(t, func(t *testing.T) {
				test.change()
				settings, err := f.Reread()
				time.Sleep(time.Minute) // whoever writes has ended by then
				if refused := err != nil; refused != (test.want == 0) || !refused && len(settings.Handlers) != max(0, test.want) {
					t.Errorf("got %d handlers and %v, want %d", len(settings.Handlers), err, test.want)
				}
			})
		})
	}
}

// A file that says nothing at the start may go on saying nothing.
func TestSettingsThatNeverSaidAnythingMayStaySo(t *testing.T) {
	at := home.Home(t.TempDir())
	f := NewSettingsFile(at, "")
	for range 2 {
		if _, err := f.Read(); err != nil {
			t.Error(err)
		}
		if _, err := f.Reread(); err != nil {
			t.Error(err)
		}
		check(t, os.WriteFile(at.Config(), []byte("# nothing\n"), 0o600))
	}
	if _, err := NewSettingsFile(at, filepath.Join(string(at), "other.yaml")).Reread(); err == nil {
		t.Error("a file that was named need not exist")
	}
}
