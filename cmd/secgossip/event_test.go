package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect/v2"
)

// An event is fired again while the agent is busy, and only then.
func TestEventIsFiredAgainWhileTheAgentIsBusy(t *testing.T) {
	busy := answered(connect.CodeResourceExhausted, "too many events at once; try again")
	taken := answered(connect.CodeAlreadyExists, "event was accepted before")
	other := answered(connect.CodePermissionDenied, "no")
	always := make([]error, 100)
	for i := range always {
		always[i] = busy
	}
	for what, test := range map[string]struct {
		answers []error
		want    error // nil: it was taken
		fired   int
		took    time.Duration
	}{
		"taken at once":                  {[]error{nil}, nil, 1, 0},
		"taken at the third":             {[]error{busy, busy, nil}, nil, 3, 3 * busyPause},
		"taken though it said busy":      {[]error{busy, taken}, nil, 2, busyPause},
		"taken before":                   {[]error{taken}, taken, 1, 0},
		"refused":                        {[]error{busy, other}, other, 2, busyPause},
		"not an answer":                  {[]error{context.DeadlineExceeded}, context.DeadlineExceeded, 1, 0},
		"a message too long for our end": {[]error{connect.NewError(connect.CodeResourceExhausted, "x")}, errAny, 1, 0},
		"busy for ever":                  {always, errAny, busyTries, 63 * busyPause},
	} {
		synctest.Test(t, func(t *testing.T) {
			begun, fired, said := time.Now(), 0, 0
			err := whileBusy(t.Context(), func() error {
				fired++
				return test.answers[fired-1]
			}, func(text string) {
				said++
				if !strings.Contains(text, "too many events at once") || !strings.Contains(text, "fired again in ") {
					t.Errorf("%s: it says %q", what, text)
				}
			})
			if test.want == errAny && err == nil || test.want != errAny && !errors.Is(err, test.want) {
				t.Errorf("%s: got %v, want %v", what, err, test.want)
			}
			if took := time.Since(begun); fired != test.fired || said != fired-1 || took != test.took {
				t.Errorf("%s: fired %d times in %v, and said so %d times; want %d in %v", what, fired, took, said, test.fired, test.took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		err := whileBusy(t.Context(), func() error { return busy }, func(string) {})
		if code := exitCode(err); code != exitFailed || hintOf(err) == "" || !strings.Contains(message(err), "the agent stayed busy: fired 7 times within 6.3s, and it says: too many events at once") {
			t.Errorf("exit code %d, %q, hint %q", code, message(err), hintOf(err))
		}
		ctx, cancel := context.WithTimeout(t.Context(), busyPause/2)
		defer cancel()
		if err := whileBusy(ctx, func() error { return busy }, func(string) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("when there is no time left: got %v", err)
		}
	})
}

var errAny = errors.New("an error")
