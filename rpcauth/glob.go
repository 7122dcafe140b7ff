package rpcauth

import (
	"errors"
	"fmt"
	"strings"
)

// checkGlob refuses globs that fit nothing or that say one thing in two ways.
func checkGlob(glob string) error {
	if glob == "" {
		return fmt.Errorf("no name after the colon; %q stands for all", "*")
	}
	if strings.Contains(glob, "**") {
		return fmt.Errorf("%q says nothing more than %q", "**", "*")
	}
	for _, c := range []byte(glob) {
		if c != '*' && c != '?' && !isNameByte(c) {
			return errors.New("a glob holds letters, digits, '.', '_', '-', '*' and '?'")
		}
	}
	return nil
}

// globCovers reports whether glob fits all that text fits, text being a name or
// another glob. It runs in time len(glob) * len(text) and needs no memory.
//
// One matcher serves both because the two wildcards are no characters of names:
// read as a name, a glob's own `*` and `?` can only be met by a wildcard. `*`
// meets any run of either. `?` meets any one character but `*`, which stands
// for many. So whatever text fits, glob fits too. The rule is sound, not
// complete: `*?` does not cover `?*`, though both fit the same names.
func globCovers(glob, text string) bool {
	g, t := 0, 0
	star, resume := -1, 0 // the last `*` seen, and where in text it gave up
	for t < len(text) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, resume = g, t
			g++
		case g < len(glob) && (glob[g] == text[t] || glob[g] == '?' && text[t] != '*'):
			g++
			t++
		case star >= 0: // let that `*` take one character more
			resume++
			g, t = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}
