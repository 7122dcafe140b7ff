package handler

import (
	"fmt"
	"strings"
)

// UnsafeError names the part of a path that others could use to exchange a
// program, and the command that mends it.
type UnsafeError struct {
	Part    string // the file, directory or symlink
	Problem string
	Fix     string
}

func (e *UnsafeError) Error() string {
	return fmt.Sprintf("%q %s; fix: %s", e.Part, e.Problem, e.Fix)
}

// pasteable writes a path so that it can be pasted into a shell.
func pasteable(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,@:", r)
	}
	if path != "" && strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
