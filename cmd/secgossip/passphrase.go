package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/keyring"
)

// maxPassphrase bounds what is read as one, in bytes.
const maxPassphrase = 1024

// passphrase reads the passphrase of the root's key from a file, stdin or the
// terminal. Never from a flag or the environment: both are there for others to
// read. It stops waiting when ctx ends, and leaves the terminal as it was.
func (e *env) passphrase(ctx context.Context, file, prompt string) ([]byte, error) {
	switch file {
	case "-":
		return waitFor(ctx, func() ([]byte, error) { return readPassphrase(e.stdin) })
	case "":
		return e.askPassphrase(ctx, prompt)
	}
	if err := keyring.CheckSecretFile(file); err != nil {
		return nil, fmt.Errorf("%w: --passphrase-file: %w", errUsage, err)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%w: --passphrase-file: %w", errUsage, err)
	}
	defer f.Close()
	return readPassphrase(f)
}

// newPassphrase is passphrase for a new key: at the terminal it is typed twice.
func (e *env) newPassphrase(ctx context.Context, file string) ([]byte, error) {
	first, err := e.passphrase(ctx, file, "Passphrase for the root's key: ")
	if err != nil || file != "" {
		return first, err
	}
	second, err := e.askPassphrase(ctx, "The same once more: ")
	if err != nil {
		return nil, err
	}
	defer clear(second)
	if !bytes.Equal(first, second) {
		clear(first)
		return nil, fmt.Errorf("%w: the two passphrases differ; nothing was made", errUsage)
	}
	return first, nil
}

func (e *env) askPassphrase(ctx context.Context, prompt string) ([]byte, error) {
	terminal, ok := e.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return nil, &home.Problem{
			Err:  fmt.Errorf("%w: no terminal to ask for the passphrase", errUsage),
			Next: "name a file by --passphrase-file, or - to read it from stdin",
		}
	}
	fd := int(terminal.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	fmt.Fprint(e.stderr, prompt)
	passphrase, err := waitFor(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	fmt.Fprintln(e.stderr)
	if errors.Is(err, home.ErrInterrupted) {
		// Otherwise the shell would go on without showing what is typed.
		err = errors.Join(err, term.Restore(fd, before))
	}
	return passphrase, err
}

// waitFor waits for a read to end, or for ctx. In the second case the read goes
// on; it ends with the process, which is about to.
func waitFor(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		content []byte
		err     error
	}
	done := make(chan result, 1)
	go func() {
		content, err := read()
		done <- result{content, err}
	}()
	select {
	case r := <-done:
		return r.content, r.err
	case <-ctx.Done():
		return nil, home.ErrInterrupted
	}
}

// readPassphrase takes the first line.
func readPassphrase(r io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, maxPassphrase+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxPassphrase {
		clear(content)
		return nil, fmt.Errorf("%w: passphrase is longer than %d bytes", errUsage, maxPassphrase)
	}
	line, _, _ := bytes.Cut(content, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}
