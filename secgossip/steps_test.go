package secgossip

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func nothing(Progress) {}

func TestStepsByHandMakeARotation(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		holds := func(want string) {
			t.Helper()
			for _, h := range []*host{a, b, d} {
				if got := h.epochs(); got != want {
					t.Errorf("%s holds %q, want %q", h.name, got, want)
				}
			}
		}
		done, err := a.node.Install(t.Context(), nothing)
		if err != nil || done.Epoch != 2 || done.Using != 3 || len(done.Missing) > 0 {
			t.Errorf("install: %+v, %v", done, err)
		}
		holds("1* 2")
		// No keeper takes the next step for its operator, however long that takes.
		time.Sleep(30 * time.Minute)
		holds("1* 2")
		if done, err := a.node.Use(t.Context(), 0, nothing); err != nil || done.Epoch != 2 || done.Previous != 1 || done.Using != 3 {
			t.Errorf("use: %+v, %v", done, err)
		}
		holds("1 2*")
		if done, err := a.node.Remove(t.Context(), 1, nothing); err != nil || !done.Removed || done.Using != 3 {
			t.Errorf("remove: %+v, %v", done, err)
		}
		holds("2*")
	})
}

// What was installed by hand and forgotten is used when the epoch before it has had
// its time. It is as old by then, so the next follows at once.
func TestForgottenInstallIsUsedAtTheNextRotation(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, _, d := c.three()
		if _, err := a.node.Install(t.Context(), nothing); err != nil {
			t.Fatal(err)
		}
		time.Sleep(DefaultRotateEvery + time.Minute)
		if got := d.epochs(); got != "3*" {
			t.Errorf("d holds %q, want %q", got, "3*")
		}
	})
}

func TestStepsThatAnEpochCannotTakeAreRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		a, b, d := c.three()
		ctx := t.Context()
		use := func(n uint64) func() (Rotation, error) {
			return func() (Rotation, error) { return a.node.Use(ctx, n, nothing) }
		}
		remove := func(n uint64) func() (Rotation, error) {
			return func() (Rotation, error) { return a.node.Remove(ctx, n, nothing) }
		}
		for claim, step := range map[string]func() (Rotation, error){
			"use what is in use":      use(1),
			"use the highest":         use(0),
			"use what is not there":   use(7),
			"remove the one in use":   remove(1),
			"remove what is not":      remove(7),
			"remove what is no epoch": remove(0),
		} {
			if _, err := step(); !errors.Is(err, ErrStep) {
				t.Errorf("%s: got %v, want ErrStep", claim, err)
			}
		}
		for _, step := range []func(context.Context, func(Progress)) (Rotation, error){b.node.Install, b.node.Rotate} {
			if _, err := step(ctx, nothing); !errors.Is(err, ErrNotKeeper) {
				t.Errorf("no keeper: got %v, want ErrNotKeeper", err)
			}
		}
		if got := a.epochs(); got != "1*" {
			t.Errorf("a holds %q, want %q", got, "1*")
		}
		// d cannot take the next one, and needs the old one.
		if err := os.Rename(d.state, d.state+".gone"); err != nil {
			t.Fatal(err)
		}
		c.rotate(a)
		if _, err := a.node.Remove(ctx, 1, nothing); !errors.Is(err, ErrStep) || !strings.Contains(err.Error(), "needed by d") {
			t.Errorf("got %v, want that d needs it", err)
		}
		if got := a.epochs(); got != "1 2*" {
			t.Errorf("a holds %q, want %q", got, "1 2*")
		}
		if err := os.Rename(d.state+".gone", d.state); err != nil {
			t.Fatal(err)
		}
	})
}
