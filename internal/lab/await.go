package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Patience is how long a step may take that takes a fraction of a second on an
// idle machine.
const Patience = 30 * time.Second

// Await asks check again and again until it has nothing to complain of. It gives
// up after [Patience], with the last complaint, or at once with one that is
// [Final].
func Await(ctx context.Context, check func(ctx context.Context) error) error {
	return AwaitFor(ctx, Patience, check)
}

// AwaitFor is Await with another patience.
func AwaitFor(ctx context.Context, patience time.Duration, check func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	var last error
	for {
		err := check(ctx)
		if _, hopeless := errors.AsType[Final](err); err == nil || hopeless {
			return err
		}
		// A check that was cut short has nothing of its own to say.
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("still so after %s: %w", patience, last)
		case <-again.C:
		}
	}
}

// Final marks a complaint that waiting does not mend.
type Final struct{ error }

// Finally makes a complaint final.
func Finally(complaint error) error { return Final{complaint} }

func (f Final) Unwrap() error { return f.error }

// ReadLines reads a file of lines, such as a log.
func ReadLines(path string) ([]string, error) {
	content, err := os.ReadFile(path)
	if err != nil || len(content) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(content), "\n"), "\n"), nil
}
