package discover

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// execPrefix begins a place that is a provider: a program of the operator's that prints
// addresses, as in exec:/usr/local/bin/nodes --region eu.
const execPrefix = "exec:"

const (
	// MaxAddress is the longest address: the longest name of the DNS, a colon and a
	// port, and brackets.
	MaxAddress = 261

	// maxArguments and maxCommand bound what a provider is started with: a line that
	// somebody writes.
	maxArguments = 32
	maxCommand   = 1024
)

// Provider returns the program that a place names, and its arguments. ok is false for
// every other place. What it is started with is split at spaces, and nothing in it is
// quoted: no shell reads it.
func Provider(place string) (program string, arguments []string, ok bool) {
	command, ok := strings.CutPrefix(place, execPrefix)
	fields := strings.Fields(command)
	if !ok || len(fields) == 0 {
		return "", nil, ok
	}
	return fields[0], fields[1:], true
}

// shown is what a place is called: the arguments of a provider are the operator's alone.
func shown(place string) string {
	if program, _, ok := Provider(place); ok {
		return execPrefix + program
	}
	return place
}

func checkProvider(place string) error {
	program, arguments, _ := Provider(place)
	switch {
	case !strings.HasPrefix(program, "/"):
		return fmt.Errorf("%q: want %s/PATH [ARGUMENT...], the absolute path of a program", shown(place), execPrefix)
	case len(place) > maxCommand || len(arguments) > maxArguments:
		return fmt.Errorf("%q: at most %d arguments, and %d bytes in all", shown(place)[:min(len(shown(place)), 64)], maxArguments, maxCommand)
	case !utf8.ValidString(place) || strings.ContainsFunc(place, unicode.IsControl):
		return fmt.Errorf("%q: a character that is none", shown(place))
	}
	return nil
}

// ParseAddresses reads what a provider prints: an address in each line, HOST or
// HOST:PORT, at most MaxAddresses of them. Empty lines and what follows a # say
// nothing. With an error it returns the good ones all the same.
func ParseAddresses(output []byte) ([]string, error) {
	var addresses []string
	var bad, more, number int
	var first error
	lines := bufio.NewScanner(bytes.NewReader(output))
	for lines.Scan() {
		number++
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" || slices.Contains(addresses, text) {
			continue
		}
		if !isAddress(text) {
			if bad++; first == nil {
				first = fmt.Errorf("line %d: %.64q: want HOST or HOST:PORT", number, text)
			}
			continue
		}
		if len(addresses) == MaxAddresses {
			more++
			continue
		}
		addresses = append(addresses, text)
	}
	switch {
	case lines.Err() != nil:
		return addresses, fmt.Errorf("line %d: %w", number+1, lines.Err())
	case bad > 1:
		return addresses, fmt.Errorf("%w (and %d more such lines)", first, bad-1)
	case bad > 0:
		return addresses, first
	case more > 0:
		return addresses, fmt.Errorf("%d addresses are too many: the first %d are used", MaxAddresses+more, MaxAddresses)
	}
	return addresses, nil
}

// isAddress reports whether text can be dialled. Whoever answers there must prove all
// the same that they are a node of the cluster.
func isAddress(text string) bool {
	if len(text) > MaxAddress {
		return false
	}
	host := text
	if h, port, err := net.SplitHostPort(text); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		host = h
	} else if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		host = text[1 : len(text)-1]
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Zone() == "" && !addr.IsUnspecified() && !addr.IsMulticast()
	}
	return host != "" && !strings.HasPrefix(host, "-") && !strings.ContainsFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
}
