package handler

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// program is a handler's program that has been found safe, held open.
//
// What was checked is what runs, even when somebody exchanges the file between
// the two (threat L06). An ELF file is executed by its descriptor. A script
// cannot be: its interpreter opens it by a path, and a path to a descriptor
// would leave that descriptor open in the handler, which is to have 0, 1 and 2
// only. So the interpreter is executed by its descriptor, and it reads a copy
// that was made from the script's descriptor and that only the agent can
// change (see scratch.stage). Handing the interpreter the real path after one
// more check would keep $0, but nothing holds a name still while an
// interpreter starts.
type program struct {
	file *os.File // open for reading
	path string   // absolute and without symlinks

	// Scripts only: the first line, and the interpreter it names.
	shebang     *shebang
	interpreter *program
}

// Check reports why the program at path must not be run as a handler by an
// agent with this uid: it does not exist, is not executable, is nothing the
// kernel or an interpreter can run, or others could write to it or to a
// directory above it. For the last the error is an *UnsafeError. The
// interpreter of a script is checked in the same way.
func Check(path string, agentUID int) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	p, err := openProgram(path, agentUID)
	if err != nil {
		return err
	}
	p.close()
	return nil
}

// openProgram checks the program at path, an absolute path, and opens it.
func openProgram(path string, agentUID int) (*program, error) {
	p, err := openExecutable(path, agentUID)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && strings.ContainsRune(path, ' ') {
			return nil, fmt.Errorf("%w (no shell reads it: a program takes no arguments)", err)
		}
		return nil, err
	}
	if p.shebang == nil {
		return p, nil
	}
	if err := p.openInterpreter(agentUID); err != nil {
		p.close()
		return nil, fmt.Errorf("interpreter of %q: %w", path, err)
	}
	return p, nil
}

func (p *program) openInterpreter(agentUID int) (err error) {
	p.interpreter, err = openExecutable(p.shebang.interpreter, agentUID)
	if err != nil {
		return err
	}
	if p.interpreter.shebang != nil {
		return fmt.Errorf("%q is a script itself: name the program that interprets it", p.interpreter.path)
	}
	if name, ok := p.shebang.lookedUp(); ok {
		return checkLookup(name, agentUID)
	}
	return nil
}

// checkLookup finds out now what env(1) would find out at the first event: that
// there is no such program on the fixed PATH, or not a safe one.
func checkLookup(name string, agentUID int) error {
	for dir := range strings.SplitSeq(fixedPath, ":") {
		p, err := openExecutable(filepath.Join(dir, name), agentUID)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			p.close()
		}
		return err
	}
	return fmt.Errorf("%q is in none of %s, which is where handlers look: %w", name, fixedPath, fs.ErrNotExist)
}

// openExecutable opens a checked regular file and reads how it starts.
func openExecutable(path string, agentUID int) (*program, error) {
	found, err := walk(path, agentUID)
	if err != nil {
		return nil, err
	}
	defer unix.Close(found.fd)
	switch {
	case found.stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%q is not a regular file", path)
	case found.stat.Mode&0o111 == 0:
		return nil, fmt.Errorf("%q is not executable; fix: chmod +x %s", path, pasteable(path))
	}
	file, err := found.reopen(unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	start := make([]byte, shebangSize)
	n, err := file.ReadAt(start, 0)
	if err != nil && err != io.EOF {
		file.Close()
		return nil, err
	}
	line, err := parseStart(start[:n])
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return &program{file: file, path: found.path, shebang: line}, nil
}

// executed is the file the kernel executes: the program or its interpreter.
func (p *program) executed() *os.File {
	if p.interpreter != nil {
		return p.interpreter.file
	}
	return p.file
}

func (p *program) close() {
	p.file.Close()
	if p.interpreter != nil {
		p.interpreter.close()
	}
}
