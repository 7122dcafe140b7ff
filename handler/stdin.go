package handler

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// standardInput returns what a handler reads, by Serf's rules: the payload of
// a user event or query with a newline added if it is not empty and does not
// end in one, or a line for each member. An epoch is a line of the same form.
func standardInput(e Event) []byte {
	if e.Kind.named() {
		if len(e.Payload) == 0 || e.Payload[len(e.Payload)-1] == '\n' {
			return e.Payload
		}
		// Not append alone: the payload may have room behind it that
		// another handler's copy of the event shares.
		return append(slices.Clip(e.Payload), '\n')
	}
	if e.Kind == KindEpoch {
		return appendLine(nil, strconv.FormatUint(e.Epoch.Number, 10), e.Epoch.Action, e.Epoch.Reason, e.Epoch.Keeper)
	}
	var text []byte
	for _, member := range e.Members {
		text = appendMember(text, member)
	}
	return text
}

// escapeField keeps a field from adding columns or lines. Like Serf it leaves
// backslashes, commas and "=" as they are, so that the text of a tag cannot
// always be told from its punctuation.
var escapeField = strings.NewReplacer("\t", `\t`, "\n", `\n`)

func appendMember(text []byte, m Member) []byte {
	var tags []string
	for _, name := range slices.Sorted(maps.Keys(m.Tags)) {
		tags = append(tags, name+"="+m.Tags[name])
	}
	// The address is escaped too: the zone of an IPv6 address is free text.
	address := ""
	if m.Addr.IsValid() {
		address = m.Addr.String()
	}
	return appendLine(text, m.Name, address, m.Role, strings.Join(tags, ","))
}

func appendLine(text []byte, fields ...string) []byte {
	for i, field := range fields {
		if i > 0 {
			text = append(text, '\t')
		}
		text = append(text, escapeField.Replace(field)...)
	}
	return append(text, '\n')
}
