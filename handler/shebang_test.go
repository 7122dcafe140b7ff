package handler

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFirstLineIsReadAsTheKernelReadsIt(t *testing.T) {
	for start, want := range map[string][]string{
		"#!/bin/sh\necho":               {"/bin/sh", "script"},
		"#!/bin/sh":                     {"/bin/sh", "script"},
		"#! \t/bin/sh \t\n":             {"/bin/sh", "script"},
		"#!/bin/sh -e\n":                {"/bin/sh", "-e", "script"},
		"#!/bin/sh  -e -u \n":           {"/bin/sh", "-e -u", "script"},
		"#!/usr/bin/env bash\n\x00rest": {"/usr/bin/env", "bash", "script"},
		"#!/usr/bin/env\t-S\tx y\n":     {"/usr/bin/env", "-S\tx y", "script"},
	} {
		line, err := parseStart([]byte(start))
		if err != nil {
			t.Errorf("%q: %v", start, err)
		} else if diff := cmp.Diff(want, line.arguments("script")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", start, diff)
		}
	}
	if line, err := parseStart([]byte("\x7fELF\x02\x01")); line != nil || err != nil {
		t.Errorf("an ELF file: %v, %v, want neither line nor error", line, err)
	}
}

func TestFilesThatNothingCanRunAreRefused(t *testing.T) {
	for _, start := range []string{
		"", "\n", "#", "echo hello\n", " #!/bin/sh\n", "\xef\xbb\xbf#!/bin/sh\n", "\x7fEL", "MZ\x90",
		"#!", "#!\n", "#! \t\n/bin/sh", "#!sh\n", "#!./sh\n", "#!-e\n",
		"#!/bin/sh\r\necho\r\n", "#!/usr/bin/env bash\r\n", "#!/bin/s\x00h\n", "#!/bin/\xff\n",
		"#!/" + strings.Repeat("x", shebangSize) + "\n",
		("#!/bin/sh " + strings.Repeat("x", shebangSize))[:shebangSize],
	} {
		if line, err := parseStart([]byte(start)); err == nil {
			t.Errorf("%q was read as %v, want an error", start, line)
		}
	}
}

func TestOnlyPlainEnvLinesNameALookup(t *testing.T) {
	for text, want := range map[string]string{
		"#!/usr/bin/env bash": "bash", "#!/bin/env python3": "python3", "#!/bin/env x-y": "x-y",
		"#!/usr/bin/env": "", "#!/bin/sh bash": "", "#!/usr/bin/env -S bash": "", "#!/usr/bin/env A=b": "", "#!/usr/bin/env /bin/sh": "",
		"#!/usr/bin/env bash -e": "",
	} {
		line, err := parseStart([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := line.lookedUp(); ok != (want != "") || ok && got != want {
			t.Errorf("%q looks up %q, %v, want %q", text, got, ok, want)
		}
	}
}

func FuzzFirstLineGivesUsableArguments(f *testing.F) {
	for _, seed := range []string{"#!/bin/sh\n", "#!/bin/sh -e\n", "#! /usr/bin/env  bash\t\n", "\x7fELF", "#!\r\n", "#!/a\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, start []byte) {
		line, err := parseStart(start)
		if err != nil || line == nil {
			return
		}
		if strings.ContainsAny(line.interpreter, " \t\n\x00") || !strings.HasPrefix(line.interpreter, "/") {
			t.Fatalf("%q: interpreter %q", start, line.interpreter)
		}
		again, err := parseStart([]byte("#!" + strings.Join(line.arguments("")[:len(line.arguments(""))-1], " ") + "\n"))
		if err != nil {
			t.Fatalf("%q: %v", start, err)
		}
		if diff := cmp.Diff(line.arguments("s"), again.arguments("s")); diff != "" {
			t.Fatalf("%q (-first +second):\n%s", start, diff)
		}
	})
}
