package handler

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// shebangSize is how much of a file the kernel looks at to find out how to
// run it (BINPRM_BUF_SIZE).
const shebangSize = 256

var errNotProgram = errors.New("neither an ELF file nor a script: a script's first line is #! and its interpreter, such as #!/bin/sh")

// shebang is the first line of a script.
type shebang struct {
	interpreter string // absolute path, as written
	argument    string // everything after it, one argument or none
}

// parseStart reads the first bytes of a program. It returns nil for an ELF
// file and what a script's first line says for a script. The rules are those
// of the kernel (fs/binfmt_script.c), except that a line it would cut short
// and an interpreter it would look for in the working directory are errors.
func parseStart(start []byte) (*shebang, error) {
	start = start[:min(len(start), shebangSize)]
	if bytes.HasPrefix(start, []byte("\x7fELF")) {
		return nil, nil
	}
	rest, ok := bytes.CutPrefix(start, []byte("#!"))
	if !ok {
		return nil, errNotProgram
	}
	line, _, ended := bytes.Cut(rest, []byte("\n"))
	if !ended && len(start) >= shebangSize {
		return nil, fmt.Errorf("its first line is longer than %d bytes", shebangSize)
	}
	text := strings.Trim(string(line), " \t")
	switch {
	case strings.ContainsRune(text, 0), !utf8.ValidString(text):
		return nil, errNotProgram
	case strings.HasSuffix(text, "\r"):
		return nil, errors.New(`its lines end in \r\n, which is not part of any interpreter's name: save it with Unix line ends`)
	}
	s := &shebang{interpreter: text}
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		s.interpreter, s.argument = text[:i], strings.TrimLeft(text[i:], " \t")
	}
	if !filepath.IsAbs(s.interpreter) {
		return nil, fmt.Errorf("interpreter %q is not an absolute path", s.interpreter)
	}
	return s, nil
}

// arguments returns the arguments of the interpreter that runs script, as the
// kernel would make them.
func (s *shebang) arguments(script string) []string {
	if s.argument == "" {
		return []string{s.interpreter, script}
	}
	return []string{s.interpreter, s.argument, script}
}

// lookedUp returns the name that "#!/usr/bin/env NAME" makes env(1) look for
// in PATH, and false for every other line.
func (s *shebang) lookedUp() (string, bool) {
	plain := s.argument != "" && s.argument[0] != '-' && !strings.ContainsAny(s.argument, " \t=/")
	return s.argument, plain && filepath.Base(s.interpreter) == "env"
}
