package keyring

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

// What a service manager hands over has no kind of its own: it is what it holds.
func TestCredentialIsTakenForWhatItHolds(t *testing.T) {
	hybrid, classic := must(age.GenerateHybridIdentity())(t).String(), must(age.GenerateX25519Identity())(t).String()
	for name, test := range map[string]struct {
		text, want string
		same       func(path string) (*Locker, error)
	}{
		"post-quantum identity": {hybrid, "age identity ", OpenIdentityLocker},
		"classic identity":      {"# created: today\n" + classic + "\n", "age identity ", OpenIdentityLocker},
		"passphrase":            {"correct horse battery staple\n", "passphrase", OpenPassphraseLocker},
		"without a line end":    {"correct horse battery staple", "passphrase", OpenPassphraseLocker},
		"from another system":   {"correct horse battery staple\r\n", "passphrase", OpenPassphraseLocker},
	} {
		l := newTestUnlock(t, OpenCredentialLocker, test.text)
		if !strings.HasPrefix(l.String(), test.want) {
			t.Errorf("%s: got a locker of the %s, want %s", name, l, test.want)
		}
		same := newTestUnlock(t, test.same, test.text)
		if got := opened(t, l, sealed(t, same, []byte("secret"))); string(got) != "secret" || l.String() != same.String() {
			t.Errorf("%s: got %q by the %s, want what was sealed with the %s", name, got, l, same)
		}
	}
}

// The end of a line is no part of a passphrase, and nothing else is left out.
func TestPassphraseOfAFileIsItsLine(t *testing.T) {
	l := newTestUnlock(t, OpenPassphraseLocker, " correct horse battery staple \n")
	raw := sealed(t, l, []byte("secret"))
	same := must(PassphraseLocker([]byte(" correct horse battery staple "), 0))(t)
	defer same.Destroy()
	if got := opened(t, same, raw); string(got) != "secret" {
		t.Errorf("got %q", got)
	}
	if !strings.Contains(string(raw), " 15\n") {
		t.Error("the file does not ask for a work factor of 15: an agent would need 256 MiB for each")
	}
}

func TestBadUnlockFilesAreRefusedWithoutAWordOfThem(t *testing.T) {
	hybrid, classic := must(age.GenerateHybridIdentity())(t).String(), must(age.GenerateX25519Identity())(t).String()
	for name, test := range map[string]struct {
		open func(path string) (*Locker, error)
		text string
		want error
	}{
		"empty passphrase":             {OpenPassphraseLocker, "", ErrDamaged},
		"only a line end":              {OpenPassphraseLocker, "\n", ErrPassphrase},
		"short passphrase":             {OpenPassphraseLocker, "hunter2\n", ErrPassphrase},
		"two lines":                    {OpenPassphraseLocker, "hunter2 hunter2\nhunter2 hunter2\n", ErrPassphrase},
		"random bytes":                 {OpenPassphraseLocker, "hunter2\xff\xfehunter2", ErrPassphrase},
		"control bytes":                {OpenPassphraseLocker, "hunter2\x00hunter2", ErrPassphrase},
		"longer than any":              {OpenPassphraseLocker, strings.Repeat("hunter2 ", 200), ErrPassphrase},
		"an identity as a passphrase":  {OpenPassphraseLocker, "# mine\n" + classic + "\n", ErrPassphrase},
		"a machine key as one":         {OpenPassphraseLocker, hybrid, ErrPassphrase},
		"a passphrase as an identity":  {OpenIdentityLocker, "hunter2 hunter2\n", ErrForeign},
		"a public key":                 {OpenIdentityLocker, "age1hunter2hunter2\n", ErrForeign},
		"empty identity":               {OpenIdentityLocker, "", ErrDamaged},
		"only a remark":                {OpenIdentityLocker, "# hunter2\n", ErrForeign},
		"two identities":               {OpenIdentityLocker, hybrid + "\n" + classic + "\n", ErrForeign},
		"half of a classic one":        {OpenIdentityLocker, classic[:40], ErrDamaged},
		"another kind of age identity": {OpenIdentityLocker, "AGE-PLUGIN-HUNTER2-1QQQQ", ErrForeign},
		"empty credential":             {OpenCredentialLocker, "", ErrDamaged},
		"short credential":             {OpenCredentialLocker, "hunter2", ErrPassphrase},
		"credential of two lines":      {OpenCredentialLocker, "hunter2 hunter2\nhunter2", ErrPassphrase},
		"half an identity":             {OpenCredentialLocker, hybrid[:60], ErrDamaged},
		"credential of two identities": {OpenCredentialLocker, classic + "\n" + classic, ErrForeign},
	} {
		path := filepath.Join(t.TempDir(), "unlock")
		write(t, path, []byte(test.text))
		l, err := test.open(path)
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, %v, want %v and the path", name, l, err, test.want)
			continue
		}
		for _, word := range []string{"hunter2", "AGE-SECRET-KEY-1", "AGE-SECRET-KEY-PQ-1"} {
			if strings.Contains(strings.ToLower(err.Error()), strings.ToLower(word)) {
				t.Errorf("%s: the error echoes the file: %v", name, err)
			}
		}
	}
}

// A keyring is sealed as long as its agent runs. With an identity that takes no
// secret, and none is kept for it.
func TestSealOnlyKeepsWhatSealingTakes(t *testing.T) {
	for name, l := range map[string]*Locker{"machine": newTestMachine(t), "classic": newTestClassic(t)} {
		raw := sealed(t, l, []byte("secret"))
		l.SealOnly()
		if _, err := l.Open(strings.NewReader(string(raw))); !errors.Is(err, ErrDestroyed) {
			t.Errorf("%s: got %v, want ErrDestroyed", name, err)
		}
		if err := l.Seal(io.Discard, []byte("more")); err != nil {
			t.Errorf("%s: sealing: %v", name, err)
		}
	}
	passphrase := newTestPassphrase(t, "correct horse")
	passphrase.SealOnly()
	if got := opened(t, passphrase, sealed(t, passphrase, []byte("secret"))); string(got) != "secret" {
		t.Errorf("passphrase: got %q", got)
	}
}

// A machine's own key is post-quantum; a classic one is somebody's choice.
func TestMachineKeyIsPostQuantum(t *testing.T) {
	path := filepath.Join(t.TempDir(), "machine.key")
	must(NewMachineLocker(path))(t).Destroy()
	if text := string(must(os.ReadFile(path))(t)); !strings.Contains(text, "\n"+machinePrefix) {
		t.Error("the file holds another kind of identity")
	}
	l := must(OpenIdentityLocker(path))(t)
	defer l.Destroy()
	if !strings.HasPrefix(l.String(), "age identity ") {
		t.Errorf("opened as an identity it prints as %q", l)
	}
}
