package rpcauth

import "fmt"

// MaxEventName is the longest name of an event or a query, in bytes.
const MaxEventName = 64

// CheckEventName says whether name can be an event's or a query's: 1 to 64 of
// A-Z a-z 0-9 . _ -, the first a letter or a digit.
//
// That is narrower than Serf, and each exclusion has its reason. Letters beyond
// ASCII: two names that look alike, or one name in two normal forms, must not
// pass for each other in a grant. Control and bidi characters, spaces: names
// are printed and logged. `*` and `?`: a name must never be a glob. `,` `=` `:`:
// they part a handler's filters. `/` and a leading `.`: routers look handlers up
// by name in a directory. A leading `_`: kept for names of our own.
func CheckEventName(name string) error { return checkName("event", name) }

func checkName(word, name string) error {
	if name == "" || len(name) > MaxEventName {
		return fmt.Errorf("%s name of %d bytes: 1 to %d are allowed", word, len(name), MaxEventName)
	}
	if name[0] == '_' {
		return fmt.Errorf("%s name %q: names that begin with '_' are reserved", word, name)
	}
	for i, c := range []byte(name) {
		if !isNameByte(c) || i == 0 && (c == '.' || c == '-') {
			return fmt.Errorf("%s name %q: letters, digits, '.', '_' and '-' are allowed, a letter or digit first", word, name)
		}
	}
	return nil
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

// PingQuery is the one query of our own. No handler sees it: every node that it is
// for acknowledges it, and that is all.
const PingQuery = "_ping"

// CheckQueryName is CheckEventName for a query, whose name may also be PingQuery.
func CheckQueryName(name string) error {
	if name == PingQuery {
		return nil
	}
	return checkName("query", name)
}
