package handler

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// fixedPath is where handlers and env(1) look for programs. It is fixed so
// that nothing in the agent's own environment can decide which program runs.
const fixedPath = "/usr/sbin:/usr/bin:/sbin:/bin"

// environment returns the whole environment of a run as sorted NAME=value
// strings. home is the run's private directory.
//
// Threat L04: nothing is inherited from the agent. Threat C12: what came from
// the network is checked here once more, because a newline or an escape
// sequence in a variable is what careless scripts trip over.
func environment(e Event, home string) ([]string, error) {
	vars := map[string]string{
		"PATH":   fixedPath,
		"HOME":   home,
		"TMPDIR": home,
		"LANG":   "C.UTF-8",
	}
	for _, prefix := range []string{"SERF_", "SECGOSSIP_"} {
		vars[prefix+"EVENT"] = string(e.Kind)
		vars[prefix+"SELF_NAME"] = e.SelfName
		vars[prefix+"SELF_ROLE"] = e.SelfTags["role"]
		ltime := strconv.FormatUint(e.LTime, 10)
		switch e.Kind {
		case KindUser:
			vars[prefix+"USER_EVENT"] = e.Name
			vars[prefix+"USER_LTIME"] = ltime
		case KindQuery:
			vars[prefix+"QUERY_NAME"] = e.Name
			vars[prefix+"QUERY_LTIME"] = ltime
			vars["SECGOSSIP_QUERY_ID"] = e.EventID
			if !e.Deadline.IsZero() {
				vars["SECGOSSIP_QUERY_DEADLINE"] = strconv.FormatInt(e.Deadline.UnixMilli(), 10)
			}
		}
	}
	if e.Kind == KindEpoch {
		vars["SECGOSSIP_EPOCH"] = strconv.FormatUint(e.Epoch.Number, 10)
		vars["SECGOSSIP_EPOCH_ACTION"] = e.Epoch.Action
		vars["SECGOSSIP_EPOCH_REASON"] = e.Epoch.Reason
		vars["SECGOSSIP_EPOCH_KEEPER"] = e.Epoch.Keeper
	}
	if e.Kind.named() {
		vars["SECGOSSIP_PRINCIPAL"] = e.Principal
		vars["SECGOSSIP_EVENT_ID"] = e.EventID
		vars["SECGOSSIP_ORIGIN"] = e.Origin
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if !printable(vars[name]) {
			return nil, fmt.Errorf("%s would be %q: only printable text goes into the environment", name, vars[name])
		}
	}
	if err := addTags(vars, e.SelfTags); err != nil {
		return nil, err
	}
	list := make([]string, 0, len(vars))
	for name, value := range vars {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list, nil
}

// addTags adds the node's own tags. Two tags can become the same variable
// ("bad-tag" and "bad_tag"): the one that sorts first wins, so that a script
// sees the same value on every run. In Serf chance decides.
func addTags(vars, tags map[string]string) error {
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		if !tagText(tags[tag]) {
			return fmt.Errorf("tag %q is %q: control characters do not go into the environment", tag, tags[tag])
		}
		name := "TAG_" + variableName(tag)
		if _, taken := vars["SERF_"+name]; taken {
			continue
		}
		vars["SERF_"+name] = tags[tag]
		vars["SECGOSSIP_"+name] = tags[tag]
	}
	return nil
}

// variableName makes the end of a variable's name from a tag's: upper case,
// and "_" for everything outside [A-Z0-9_], as Serf does.
func variableName(tag string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		default:
			return '_'
		}
	}, strings.ToUpper(tag))
}

// printable reports whether s can be shown as it is: valid UTF-8 without
// control characters, line breaks or marks that reverse the direction of text.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// tagText is what a tag's value may hold: text without control characters,
// zero bytes and newlines among them. A tab is harmless and existing tags may
// hold one.
func tagText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\t' })
}
