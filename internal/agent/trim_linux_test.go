package agent

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestOnlyWhatIsAsInTheFileIsGivenBack(t *testing.T) {
	const maps = `00400000-00b9a000 r-xp 00000000 fd:01 77 /usr/local/bin/secgossip
Size:               7784 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me sd
00b9a000-0139c000 r--p 0079a000 fd:01 77 /usr/local/bin/secgossip
Anonymous:             0 kB
0139c000-013a0000 r--p 00f9c000 fd:01 77 /usr/local/bin/secgossip
Anonymous:             4 kB
013a0000-01405000 rw-p 00fa0000 fd:01 77 /usr/local/bin/secgossip
Anonymous:             0 kB
01405000-0344a000 rw-p 00000000 00:00 0
Anonymous:             0 kB
1ed98f000000-1ed98fc00000 rw-p 00000000 00:00 0 [anon: Go: heap]
Anonymous:             0 kB
7fb70bf04000-7fb70c014000 r--p 00000000 fd:01 78 /usr/lib/libc.so.6
Anonymous:             0 kB
7ffd0a5f2000-7ffd0a5f4000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
`
	got, err := parsePages([]byte(maps), "/usr/local/bin/secgossip")
	if want := []pages{{0x400000, 0xb9a000}, {0xb9a000, 0x139c000}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %x, %v, want %x", got, err, want)
	}
	for _, line := range []string{"b-a r--p 0 0 0 /x\n", "x-y r-xp 0 0 0 /x\n"} {
		if got, err := parsePages([]byte(line), "/x"); err == nil {
			t.Errorf("%q: got %x", line, got)
		}
	}
}

func TestProgramGoesOnWithoutItsPages(t *testing.T) {
	own, err := ownPages()
	if err != nil || len(own) == 0 {
		t.Fatalf("got %x, %v, want its code at least", own, err)
	}
	before := filePages(t)
	if err := trim(own); err != nil {
		t.Fatal(err)
	}
	if after := filePages(t); after >= before {
		t.Errorf("%d KiB of files are in memory, and %d before", after, before)
	}
}

// filePages is how much of files is in this process's memory, in KiB.
func filePages(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	check(t, err)
	for line := range strings.Lines(string(text)) {
		if number, ok := strings.CutPrefix(line, "RssFile:"); ok {
			n, err := strconv.Atoi(strings.Fields(number)[0])
			check(t, err)
			return n
		}
	}
	t.Skip("this kernel does not say how much of files is in memory")
	return 0
}
