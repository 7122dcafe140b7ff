package keyring

import (
	"fmt"
	"io"
	"log/slog"
)

// nameplate is what a secret shows instead of itself. It is embedded, so that a
// handle and a copied handle print alike, and it answers every way of printing
// that the standard library knows: all verbs of fmt, JSON and text encoders,
// slog.
type nameplate struct{ text string }

// String returns the fingerprint.
func (n nameplate) String() string {
	if n.text == "" {
		return "none"
	}
	return n.text
}

// Format writes the fingerprint, whatever the verb and its flags.
func (n nameplate) Format(state fmt.State, _ rune) {
	io.WriteString(state, n.String()) // an error here is the state's to report
}

// MarshalText returns the fingerprint; encoding/json uses it too.
func (n nameplate) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// LogValue returns the fingerprint.
func (n nameplate) LogValue() slog.Value { return slog.StringValue(n.String()) }
