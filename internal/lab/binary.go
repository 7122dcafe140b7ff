package lab

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// Binary is the program as the tests of a package share it: built at its first use, gone
// when they have run. Its zero value is ready. The working directory must lie in this
// module.
type Binary struct {
	once   sync.Once
	folder string
	path   string
	err    error
}

// buildTime is enough to build everything anew on a busy machine.
const buildTime = 5 * time.Minute

// Path returns where the program is.
func (b *Binary) Path() (string, error) {
	b.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), buildTime)
		defer cancel()
		b.err = b.build(ctx)
	})
	return b.path, b.err
}

func (b *Binary) build(ctx context.Context) (err error) {
	if b.folder, err = os.MkdirTemp("", "secgossip-program-"); err != nil {
		return err
	}
	if err := os.Chmod(b.folder, 0o755); err != nil { // agents of any user start it again
		return err
	}
	b.path = filepath.Join(b.folder, "secgossip")
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", b.path, "github.com/secgossip/secgossip/cmd/secgossip")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return errors.Join(err, errors.New(string(said)))
	}
	return nil
}

// Run is for TestMain: it runs the tests, removes the program and returns the exit code.
func (b *Binary) Run(tests interface{ Run() int }) int {
	code := tests.Run()
	if b.folder != "" {
		if err := os.RemoveAll(b.folder); err != nil && code == 0 {
			code = 1
		}
	}
	return code
}
