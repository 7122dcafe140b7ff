package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

func sealed(t testing.TB, l *Locker, plaintext []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := l.Seal(&out, plaintext); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func opened(t testing.TB, l *Locker, raw []byte) []byte {
	t.Helper()
	buffer := must(l.Open(bytes.NewReader(raw)))(t)
	defer buffer.Destroy()
	return bytes.Clone(buffer.Bytes())
}

func TestLockersOpenWhatTheySeal(t *testing.T) {
	for name, l := range map[string]*Locker{
		"machine": newTestMachine(t), "passphrase": newTestPassphrase(t, "correct horse"), "classic": newTestClassic(t),
	} {
		for _, size := range []int{1, 2, 31, 32, 4096, maxPlaintext - 1, maxPlaintext} {
			plaintext := bytes.Repeat([]byte{'x'}, size)
			raw := sealed(t, l, plaintext)
			if size > 16 && bytes.Contains(raw, plaintext[:16]) {
				t.Errorf("%s: plaintext of %d bytes is in the file", name, size)
			}
			if got := opened(t, l, raw); !bytes.Equal(got, plaintext) {
				t.Errorf("%s: %d bytes came back as %d others", name, size, len(got))
			}
			if bytes.Equal(raw, sealed(t, l, plaintext)) {
				t.Errorf("%s: sealed twice to the same bytes", name)
			}
		}
	}
}

func TestSealingNothingOrTooMuchIsRefused(t *testing.T) {
	l := newTestMachine(t)
	path := filepath.Join(t.TempDir(), "file")
	for _, size := range []int{0, maxPlaintext + 1, 1 << 20} {
		var out bytes.Buffer
		if err := l.Seal(&out, make([]byte, size)); !errors.Is(err, ErrSize) || out.Len() != 0 {
			t.Errorf("%d bytes: got %v and %d bytes, want ErrSize", size, err, out.Len())
		}
		if err := l.WriteFile(path, make([]byte, size)); !errors.Is(err, ErrSize) {
			t.Errorf("%d bytes: got %v, want ErrSize", size, err)
		}
	}
	wantFiles(t, path)
	broken := errors.New("broken")
	if err := l.Seal(failing{broken}, []byte("x")); !errors.Is(err, broken) {
		t.Errorf("broken writer: got %v", err)
	}
	if _, err := l.Open(io.MultiReader(strings.NewReader(ageIntro), failingReader{broken})); !errors.Is(err, broken) {
		t.Errorf("broken reader: got %v", err)
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// The payload is sealed and opened without age's own code: age must agree, both
// ways, or "an ordinary age file" is only a claim.
func TestFilesAreOrdinaryAgeFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "machine.key")
	machine := must(NewMachineLocker(path))(t)
	defer machine.Destroy()
	identities := must(age.ParseIdentities(bytes.NewReader(must(os.ReadFile(path))(t))))(t)
	if len(identities) != 1 {
		t.Fatalf("age reads %d identities from the machine's key file, want 1", len(identities))
	}
	scryptIdentity := must(age.NewScryptIdentity("correct horse"))(t)
	scryptRecipient := must(age.NewScryptRecipient("correct horse"))(t)
	scryptRecipient.SetWorkFactor(10)
	classicIdentity := must(age.GenerateX25519Identity())(t)
	classic := newTestUnlock(t, OpenIdentityLocker, classicIdentity.String())
	for _, test := range []struct {
		name      string
		locker    *Locker
		identity  age.Identity
		recipient age.Recipient
	}{
		{"machine", machine, identities[0], identities[0].(*age.HybridIdentity).Recipient()},
		{"passphrase", newTestPassphrase(t, "correct horse"), scryptIdentity, scryptRecipient},
		{"classic", classic, classicIdentity, classicIdentity.Recipient()},
	} {
		for _, size := range []int{1, 1000, maxPlaintext} {
			plaintext := bytes.Repeat([]byte{'y'}, size)
			reader, err := age.Decrypt(bytes.NewReader(sealed(t, test.locker, plaintext)), test.identity)
			if err != nil {
				t.Fatalf("%s: age refuses our file: %v", test.name, err)
			}
			if got := must(io.ReadAll(reader))(t); !bytes.Equal(got, plaintext) {
				t.Errorf("%s: age reads %d other bytes, want %d", test.name, len(got), size)
			}
			if got := opened(t, test.locker, agesOwn(t, plaintext, test.recipient)); !bytes.Equal(got, plaintext) {
				t.Errorf("%s: we read %d other bytes of age's, want %d", test.name, len(got), size)
			}
		}
	}
	// Sealed again for a second machine, by hand: still opens.
	second := must(age.GenerateHybridIdentity())(t)
	raw := agesOwn(t, []byte("z"), second.Recipient(), identities[0].(*age.HybridIdentity).Recipient())
	if got := opened(t, machine, raw); string(got) != "z" {
		t.Errorf("a file for two machines: got %q", got)
	}
}

// agesOwn is a file made by age.
func agesOwn(t testing.TB, plaintext []byte, recipients ...age.Recipient) []byte {
	t.Helper()
	var out bytes.Buffer
	w := must(age.Encrypt(&out, recipients...))(t)
	must(w.Write(plaintext))(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestForeignUnlockKeysAreRefused(t *testing.T) {
	machine, other := newTestMachine(t), newTestMachine(t)
	right, wrong := newTestPassphrase(t, "correct horse"), newTestPassphrase(t, "correct horsf")
	forMachine, forPassphrase := sealed(t, machine, []byte("secret")), sealed(t, right, []byte("secret"))
	classic := must(age.GenerateX25519Identity())(t)
	forClassic := agesOwn(t, []byte("secret"), classic.Recipient())
	for _, test := range []struct {
		name string
		l    *Locker
		raw  []byte
		want string
	}{
		{"another machine's", other, forMachine, "does not open with the machine key"},
		{"another passphrase", wrong, forPassphrase, "does not open with the passphrase"},
		{"passphrase for a machine's file", right, forMachine, "it is sealed with a machine key"},
		{"machine for a passphrase file", machine, forPassphrase, "it is sealed with a passphrase"},
		{"machine for a classic age file", machine, forClassic, "it is sealed with a classic age identity"},
		{"another classic identity", newTestClassic(t), forClassic, "does not open with the age identity"},
		{"classic for a machine's file", newTestClassic(t), forMachine, "it is sealed with a machine key"},
	} {
		buffer, err := test.l.Open(bytes.NewReader(test.raw))
		if !errors.Is(err, ErrWrongKey) || buffer != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want ErrWrongKey and %q", test.name, err, test.want)
		}
	}
}

func TestEveryTruncationOfASealedFileIsRefused(t *testing.T) {
	l := newTestMachine(t)
	raw := sealed(t, l, bytes.Repeat([]byte("secret"), 50))
	step := 1
	if raceEnabled {
		step = 16
	}
	for n := 0; n < len(raw); n += step {
		buffer, err := l.Open(bytes.NewReader(raw[:n]))
		if !errors.Is(err, ErrDamaged) || buffer != nil {
			t.Errorf("%d of %d bytes: got %v, want ErrDamaged", n, len(raw), err)
		}
	}
	for _, more := range []string{"\x00", "\n", string(raw), strings.Repeat("x", maxPlaintext)} {
		if _, err := l.Open(strings.NewReader(string(raw) + more)); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d bytes more: got %v, want ErrDamaged or ErrTooLarge", len(more), err)
		}
	}
}

func TestEveryFlippedByteOfASealedFileIsRefused(t *testing.T) {
	l := newTestMachine(t)
	raw := sealed(t, l, []byte("secret"))
	for i := range raw {
		if raceEnabled && i%16 != 0 && i > 30 && i < len(raw)-60 {
			continue // the insides of the wrapped key, all alike
		}
		bad := bytes.Clone(raw)
		bad[i] ^= 1 << (i % 8)
		buffer, err := l.Open(bytes.NewReader(bad))
		if err == nil {
			t.Fatalf("byte %d flipped: opens to %d bytes", i, buffer.Size())
		}
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrWrongKey) && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrNewer) {
			t.Errorf("byte %d flipped: got %v, want a sentinel", i, err)
		}
	}
}

func TestOtherFilesAreRefusedWithoutAWordOfThem(t *testing.T) {
	l := newTestMachine(t)
	identity := must(age.GenerateHybridIdentity())(t)
	for name, test := range map[string]struct {
		raw  string
		want error
	}{
		"nothing":             {"", ErrDamaged},
		"a key in PEM":        {rfc8410Key, ErrForeign},
		"a machine key":       {identity.String(), ErrForeign},
		"a passphrase":        {"hunter2 hunter2 hunter2 hunter2\n", ErrForeign},
		"armored age":         {"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl", ErrForeign},
		"a newer age":         {"age-encryption.org/v2\n-> hunter2\n", ErrNewer},
		"age with a secret":   {ageIntro + "hunter2\n", ErrDamaged},
		"age, stanza secret":  {ageIntro + "-> x y\nhunter2 hunter2\n--- z\n", ErrDamaged},
		"age, MAC secret":     {ageIntro + "-> x y\n\n--- hunter2\n", ErrDamaged},
		"age, no recipient":   {ageIntro + "--- " + strings.Repeat("A", 43) + "\n" + strings.Repeat("x", 100), ErrDamaged},
		"zeros":               {string(make([]byte, 5000)), ErrForeign},
		"more than one chunk": {string(agesOwn(t, make([]byte, maxPlaintext+1), l.public)), ErrTooLarge},
		"empty plaintext":     {string(agesOwn(t, nil, l.public)), ErrDamaged},
		"endless":             {ageIntro + strings.Repeat("x", maxFileSize), ErrTooLarge},
	} {
		buffer, err := l.Open(strings.NewReader(test.raw))
		if !errors.Is(err, test.want) || buffer != nil {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
			continue
		}
		for _, word := range []string{"hunter2", "MC4C", "AGE-SECRET", "PRIVATE"} {
			if strings.Contains(err.Error(), word) {
				t.Errorf("%s: the error echoes the file: %v", name, err)
			}
		}
	}
}

func TestPassphrasesHaveAFloor(t *testing.T) {
	for _, test := range []struct {
		passphrase string
		workFactor int
	}{
		{"", 0}, {"short", 0}, {"1234567", 18}, {"äöüäöüä", 18}, {"\n\n\n", 0},
		{"long enough", 1}, {"long enough", 14}, {"long enough", 21}, {"long enough", 30}, {"long enough", -1},
	} {
		if l, err := PassphraseLocker([]byte(test.passphrase), test.workFactor); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%q, %d: got %v, %v, want ErrPassphrase", test.passphrase, test.workFactor, l, err)
		} else if test.passphrase != "" && strings.Contains(err.Error(), test.passphrase) {
			t.Errorf("the error echoes the passphrase: %v", err)
		}
	}
	for _, passphrase := range []string{"12345678", "äöüäöüäö"} {
		l := must(PassphraseLocker([]byte(passphrase), 0))(t)
		if l.workFactor != DefaultWorkFactor {
			t.Errorf("work factor: got %d, want %d", l.workFactor, DefaultWorkFactor)
		}
		l.Destroy()
	}
}

// The one test at a real cost.
func TestPassphraseAtItsFloorSealsAndOpens(t *testing.T) {
	l := must(PassphraseLocker([]byte("correct horse"), minWorkFactor))(t)
	defer l.Destroy()
	raw := sealed(t, l, []byte("secret"))
	if !bytes.Contains(raw, []byte(" 15\n")) {
		t.Error("the file does not ask for a work factor of 15")
	}
	if got := opened(t, l, raw); string(got) != "secret" {
		t.Errorf("got %q", got)
	}
}

// Whoever can write the file must not be able to make opening it take for ever.
func TestCostlyWorkFactorsAreRefused(t *testing.T) {
	l := newTestPassphrase(t, "correct horse")
	raw := sealed(t, l, []byte("secret"))
	for _, factor := range []string{"21", "22", "30", "63", "99", "100000"} {
		costly := bytes.Replace(raw, []byte(" 2\n"), []byte(" "+factor+"\n"), 1)
		if _, err := l.Open(bytes.NewReader(costly)); !errors.Is(err, ErrDamaged) {
			t.Errorf("work factor %s: got %v, want ErrDamaged", factor, err)
		}
	}
}

func TestMachineLockerIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "machine.key")
	l := must(NewMachineLocker(path))(t)
	defer l.Destroy()
	again := must(OpenMachineLocker(path))(t)
	raw := sealed(t, l, []byte("secret"))
	if got := opened(t, again, raw); string(got) != "secret" {
		t.Errorf("got %q", got)
	}
	if l.String() != again.String() || !strings.HasPrefix(l.String(), "machine key ") {
		t.Errorf("one machine, two names: %q and %q", l, again)
	}

	// Without its secret a machine's locker can still seal: that takes the public
	// part. A passphrase's cannot.
	again.Destroy()
	again.Destroy()
	if _, err := again.Open(bytes.NewReader(raw)); !errors.Is(err, ErrDestroyed) {
		t.Errorf("destroyed: got %v, want ErrDestroyed", err)
	}
	if got := opened(t, l, sealed(t, again, []byte("more"))); string(got) != "more" {
		t.Errorf("got %q", got)
	}
	passphrase := newTestPassphrase(t, "correct horse")
	passphrase.Destroy()
	if err := passphrase.Seal(io.Discard, []byte("x")); !errors.Is(err, ErrDestroyed) {
		t.Errorf("destroyed passphrase: got %v, want ErrDestroyed", err)
	}
	(*Locker)(nil).Destroy()
}

func TestBadMachineKeysAreRefusedWithoutAWordOfThem(t *testing.T) {
	identity := must(age.GenerateHybridIdentity())(t).String()
	classic := must(age.GenerateX25519Identity())(t).String()
	flipped := []byte(identity)
	flipped[30] ^= 3 // another letter, upper case still
	for name, test := range map[string]struct {
		text string
		want error
	}{
		"empty":           {"", ErrDamaged},
		"only a comment":  {"# hunter2\n", ErrForeign},
		"garbage":         {"hunter2\n", ErrForeign},
		"classic":         {classic, ErrForeign},
		"two":             {identity + "\n" + identity, ErrForeign},
		"key and garbage": {identity + "\nhunter2", ErrForeign},
		"truncated":       {identity[:len(identity)-1], ErrDamaged},
		"prefix only":     {machinePrefix, ErrDamaged},
		"flipped":         {string(flipped), ErrDamaged},
		"longer":          {identity + "Q", ErrDamaged},
		"mixed case":      {identity[:40] + strings.ToLower(identity[40:]), ErrDamaged},
	} {
		path := filepath.Join(t.TempDir(), "machine.key")
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := OpenMachineLocker(path)
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, %v, want %v and the path", name, l, err, test.want)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") || strings.Contains(strings.ToUpper(err.Error()), "AGE-SECRET") {
			t.Errorf("%s: the error echoes the file: %v", name, err)
		}
	}
	path := filepath.Join(t.TempDir(), "machine.key")
	text := fmt.Sprintf("# made by age-keygen\r\n\r\n  %s \r\n# end", identity)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	must(OpenMachineLocker(path))(t).Destroy()
}

// What we open, age opens to the same bytes.
func FuzzOpenAgreesWithAge(f *testing.F) {
	// A work factor of 1, and age's own code to compare with.
	recipient := must(age.NewScryptRecipient("correct horse"))(f)
	recipient.SetWorkFactor(1)
	identity := must(age.NewScryptIdentity("correct horse"))(f)
	identity.SetMaxWorkFactor(3)
	raw := agesOwn(f, []byte("secret"), recipient)
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Add([]byte(ageIntro))
	f.Fuzz(func(t *testing.T, raw []byte) {
		memory, err := openAge(identity, raw)
		if err != nil {
			return
		}
		defer memory.destroy()
		want, ageErr := decryptByAge(raw, identity)
		if ageErr != nil || !bytes.Equal(memory.buffer.Bytes(), want) {
			t.Errorf("we read %d bytes, age %d and %v", memory.buffer.Size(), len(want), ageErr)
		}
	})
}

func decryptByAge(raw []byte, identity age.Identity) ([]byte, error) {
	reader, err := age.Decrypt(bytes.NewReader(raw), identity)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(reader)
}
