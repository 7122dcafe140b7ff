package handler

import (
	"bytes"
	"strings"
	"testing"
)

func TestOutputKeepsBothEnds(t *testing.T) {
	for _, size := range []int{0, 1, keptOutput - 1, keptOutput, keptOutput + 1, 2*keptOutput - 1, 2 * keptOutput, 2*keptOutput + 1, 3*keptOutput + 7, 10 * keptOutput} {
		for _, step := range []int{1, 7, 4096, keptOutput, 5 * keptOutput} {
			if step == 1 && size > 3*keptOutput {
				continue // The same again, slowly.
			}
			written := make([]byte, size)
			for i := range written {
				written[i] = byte(i ^ i>>8)
			}
			var c capture
			for rest := written; len(rest) > 0; {
				n := min(step, len(rest))
				if got, err := c.Write(rest[:n]); got != n || err != nil {
					t.Fatalf("Write = %d, %v, want %d", got, err, n)
				}
				rest = rest[n:]
			}
			out := c.output()
			wantHead := written[:min(size, keptOutput)]
			wantTail := written[max(len(wantHead), size-keptOutput):]
			if !bytes.Equal(out.Head, wantHead) || !bytes.Equal(out.Tail, wantTail) {
				t.Errorf("%d bytes in steps of %d: head of %d and tail of %d bytes are not the two ends", size, step, len(out.Head), len(out.Tail))
			}
			if got, want := out.Omitted, int64(size-len(wantHead)-len(wantTail)); got != want {
				t.Errorf("%d bytes in steps of %d: omitted %d, want %d", size, step, got, want)
			}
			if cap(c.tail) > 4*keptOutput {
				t.Errorf("%d bytes in steps of %d: the tail holds %d bytes of memory", size, step, cap(c.tail))
			}
		}
	}
}

func TestCutOutputSaysThatItIsCut(t *testing.T) {
	if got := (Output{Head: []byte("ab"), Tail: []byte("cd")}).String(); got != "abcd" {
		t.Errorf("whole output prints as %q", got)
	}
	if got := (Output{Head: []byte("ab"), Tail: []byte("cd"), Omitted: 5}).String(); !strings.Contains(got, "5 bytes omitted") {
		t.Errorf("cut output prints as %q", got)
	}
}

func TestLoggedOutputIsShortAndEscaped(t *testing.T) {
	long := Output{Head: bytes.Repeat([]byte("x"), keptOutput), Tail: bytes.Repeat([]byte("\x1b[2J\n"), 1000)}
	got := long.excerpt()
	if strings.ContainsAny(got, "\x1b\n") {
		t.Errorf("control characters in %q", got)
	}
	if len(got) > 256*4+2 { // \x1b is four characters
		t.Errorf("%d bytes logged", len(got))
	}
	if got := (Output{Head: []byte("a\nb")}).excerpt(); got != `"a\nb"` {
		t.Errorf("short output is logged as %s", got)
	}
}
