package keyring

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"
)

// Threat L03: whoever reads this process's memory finds each secret once while it
// lives, in its locked page, and never after. With crypto/hkdf in place of
// derive, or with age.Decrypt in place of openAge, this test finds the copies.
func TestLiveSecretHasOneCopyAndARetiredOneHasNone(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's shadow memory takes too long to read")
	}
	if !inChild(t) { // a fresh process has little memory to read
		return
	}
	path := filepath.Join(t.TempDir(), "keyring.age")
	locker := newTestMachine(t)
	knock := must(NewSecret())(t)
	file := must(CreateFile(path, locker, New(knock)))(t)
	var needles []needle
	for n := uint64(1); n <= 3; n++ {
		secret := must(NewSecret())(t)
		needles = append(needles, needleOf(t, secret))
		if err := file.Update(func(draft *Keyring) error {
			if err := draft.Install(Epoch{Number: n, Secret: secret}); err != nil {
				return err
			}
			return draft.Use(n)
		}); err != nil {
			t.Fatal(err)
		}
	}
	file.Keyring().Destroy()
	wantCopies(t, "all destroyed", needles, 0, 0, 0)

	file = must(OpenFile(path, locker))(t)
	ring := file.Keyring()
	wantCopies(t, "read back", needles, 1, 1, 1)

	var keys []needle
	derived, scanned := make(chan bool), make(chan bool)
	go func() { // and stays, so that nothing else uses its stack
		defer close(derived)
		for _, info := range ring.List() {
			e, _ := ring.Get(info.Number)
			a, errA := e.Secret.Derive(bytes.Repeat([]byte{7}, 32), []byte("a pair's key"), 100)
			b, errB := e.Secret.Derive([]byte("odd"), nil, 1)
			key, errKey := e.Secret.Derive(nil, []byte("a key"), 32)
			if err := errors.Join(errA, errB, errKey); err != nil {
				t.Error(err)
				return
			}
			keys = append(keys, disguised(key))
			wipe(a)
			wipe(b)
			wipe(key)
		}
		derived <- true
		<-scanned
	}()
	if !<-derived {
		return
	}
	wantCopies(t, "derived from", needles, 1, 1, 1)
	wantCopies(t, "derived and wiped", keys, 0, 0, 0)
	close(scanned)

	if err := file.Update(func(draft *Keyring) error { return draft.Remove(1) }); err != nil {
		t.Fatal(err)
	}
	wantCopies(t, "first retired", needles, 0, 1, 1)

	var sent discard
	e, _ := ring.Get(2)
	must(e.Secret.WriteTo(&sent))(t)
	if err := file.Update(func(draft *Keyring) error { return draft.Remove(2) }); err != nil {
		t.Fatal(err)
	}
	wantCopies(t, "second sent and retired", needles, 0, 0, 1)

	ring.Destroy()
	wantCopies(t, "all destroyed again", needles, 0, 0, 0)
}

type discard struct{}

func (*discard) Write(p []byte) (int, error) { return len(p), nil }

// needle is a secret in disguise, so that the search does not find itself.
type needle [SecretSize / 8]uint64

const disguise = 0x5aa5_96c3_7811_e42d

func needleOf(t *testing.T, s *Secret) (n needle) {
	t.Helper()
	if err := s.use(func(raw []byte) error {
		n = disguised(raw)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func disguised(raw []byte) (n needle) {
	for i := range n {
		n[i] = binary.LittleEndian.Uint64(raw[8*i:]) ^ disguise
	}
	return n
}

// wantCopies counts, for each needle, how often any of its four words is in this
// process's memory: so half a copy counts as well.
func wantCopies(t *testing.T, when string, needles []needle, want ...int) {
	t.Helper()
	got := make([]int, len(needles))
	places := make([]string, len(needles))
	// Nearly all of memory is dismissed by two bytes.
	var candidate [1 << 16]bool
	for _, n := range needles {
		for _, word := range n {
			candidate[uint16(word^disguise)] = true
		}
	}
	scanMemory(t, func(region string, memory []byte) {
		for i := 0; i+8 <= len(memory); i++ {
			if !candidate[binary.LittleEndian.Uint16(memory[i:])] {
				continue
			}
			word := binary.LittleEndian.Uint64(memory[i:]) ^ disguise
			for j := range needles {
				if n := &needles[j]; word == n[0] || word == n[1] || word == n[2] || word == n[3] {
					got[j]++
					places[j] += " " + region
				}
			}
		}
	})
	for j := range needles {
		if got[j] != 4*want[j] {
			t.Errorf("%s: epoch %d: %d of 4 words found, want %d, in%s", when, j+1, got[j], 4*want[j], places[j])
		}
	}
}

// scanMemory calls f with all readable memory of this process but that of files.
func scanMemory(t *testing.T, f func(region string, memory []byte)) {
	t.Helper()
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Skip("this process may not read its own memory: ", err)
	}
	defer memory.Close()
	const chunk, overlap = 1 << 20, 7
	buffer := make([]byte, chunk)
	own := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(buffer))))

	maps := must(os.ReadFile("/proc/self/maps"))(t)
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		var from, to uint64
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &from, &to); err != nil {
			t.Fatal(err)
		}
		if fields[1][0] != 'r' || strings.HasPrefix(fields[len(fields)-1], "[v") {
			continue
		}
		for at := from; at < to; at += chunk - overlap {
			n, err := memory.ReadAt(buffer[:min(chunk, to-at)], int64(at))
			if n == 0 && err != nil {
				break // unmapped meanwhile
			}
			if own < at+uint64(n) && at < own+chunk {
				// It has read itself, what is before it and what is after it.
				clear(buffer[max(own, at)-at : min(own+chunk, at+uint64(n))-at])
			}
			f(lines.Text(), buffer[:n])
		}
	}
}

// Whatever fails gives back what it locked; the limit is small.
func TestFailuresLeaveNoLockedMemory(t *testing.T) {
	dir := t.TempDir()
	locker, other := newTestMachine(t), newTestMachine(t)
	taken, sealedElsewhere, wrong := filepath.Join(dir, "taken"), filepath.Join(dir, "elsewhere"), filepath.Join(dir, "wrong")
	write(t, taken, []byte("garbage"))
	if err := errors.Join(other.WriteFile(sealedElsewhere, []byte("secret")), locker.WriteFile(wrong, []byte("not a key"))); err != nil {
		t.Fatal(err)
	}
	two := filepath.Join(dir, "two")
	text := must(os.ReadFile(machinePath(t)))(t)
	write(t, two, append(bytes.Clone(text), text...))
	half := filepath.Join(dir, "half of a machine key")
	write(t, half, text[:len(text)-9])
	halfKeyring := filepath.Join(dir, "half")
	if err := locker.WriteFile(halfKeyring, encoded(t, testImage())[:100]); err != nil {
		t.Fatal(err)
	}
	key, agreement, destroyed := must(NewSigningKey())(t), must(NewAgreementKey())(t), must(NewSigningKey())(t)
	destroyed.Destroy()
	defer key.Destroy()
	defer agreement.Destroy()
	ring := newTestKeyring(t, 1)
	_, _, file := newTestFile(t, 1)

	before := lockedMemory(t)
	for range 3 {
		for i, err := range []error{
			second(NewMachineLocker(taken)), second(OpenMachineLocker(taken)), second(OpenMachineLocker(two)), second(OpenMachineLocker(half)),
			second(ReadClientKeyFile(taken)), WriteClientKeyFile(taken, key), WriteClientKeyFile(taken, destroyed),
			StoreSigningKey(taken, locker, key), StoreAgreementKey(taken, locker, agreement), StoreSigningKey(taken, locker, destroyed),
			second(LoadSigningKey(wrong, locker)), second(LoadAgreementKey(wrong, locker)),
			second(LoadSigningKey(sealedElsewhere, locker)), second(OpenFile(wrong, locker)), second(OpenFile(halfKeyring, locker)),
			second(CreateFile(taken, locker, ring)), second(SecretFrom([]byte("short"))),
			file.Update(func(draft *Keyring) error { return draft.Use(9) }),
			second(PassphraseLocker([]byte("short"), 0)), second(OpenPassphraseLocker(taken)), second(OpenPassphraseLocker(two)),
			second(OpenIdentityLocker(half)), second(OpenIdentityLocker(two)), second(OpenCredentialLocker(half)), second(OpenCredentialLocker(taken)),
		} {
			if err == nil {
				t.Fatalf("failure %d did not fail", i)
			}
		}
	}
	if after := lockedMemory(t); after != before {
		t.Errorf("locked memory: %s before, %s after", before, after)
	}
}

func second[T any](_ T, err error) error { return err }

func machinePath(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "machine.key")
	must(NewMachineLocker(path))(t).Destroy()
	return path
}

func lockedMemory(t *testing.T) string {
	t.Helper()
	status := string(must(os.ReadFile("/proc/self/status"))(t))
	_, rest, _ := strings.Cut(status, "VmLck:")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}
