package handler

import (
	"errors"
	"fmt"
	"strings"
)

// Spec says which program runs for which events.
//
// One Spec is one handler, however many filters it has. Serf makes a handler
// of each filter, so that "user,user:deploy=x" runs x twice for one event. That
// would break the promise that a handler runs at most once for each event.
type Spec struct {
	Filters []Filter // at least one; any of them may match
	Program string   // as written; New makes a relative path absolute

	// Name is what lists and the journal call the handler, String() if empty.
	// No two handlers have one.
	Name string

	// Settings are this handler's own. What they leave out is as Config.Settings
	// has it, and the paths of both count.
	Settings Settings
}

// Filter selects events by kind and, for user events and queries, by name.
type Filter struct {
	Kind Kind   // kindAny for *
	Name string // "" for every name
}

// kindAny is the filter * . It is no kind of event.
const kindAny Kind = "*"

// ParseSpec reads "[filter[,filter...]=]program" with Serf's grammar exactly:
// the text is split at the first "=", nothing is trimmed, and without a filter
// the program runs for every event. A program whose path holds "=" therefore
// needs "*=" before it.
func ParseSpec(text string) (Spec, error) {
	filters, program, found := strings.Cut(text, "=")
	if !found {
		filters, program = "", text
	}
	switch {
	case program == "":
		return Spec{}, fmt.Errorf("handler %q names no program", text)
	case strings.ContainsRune(program, 0):
		return Spec{}, fmt.Errorf("handler %q: a path cannot hold a zero byte", text)
	}
	spec := Spec{Program: program}
	if filters == "" {
		spec.Filters = []Filter{{Kind: kindAny}}
		return spec, nil
	}
	for part := range strings.SplitSeq(filters, ",") {
		filter, err := ParseFilter(part)
		if err != nil {
			return Spec{}, fmt.Errorf("handler %q: %w", text, err)
		}
		spec.Filters = append(spec.Filters, filter)
	}
	return spec, nil
}

var errFilter = errors.New("filters are member-join, member-leave, member-failed, member-update, " +
	"member-reap, member-evict, member-quarantine, epoch, user, user:NAME, query, query:NAME and *")

// ParseFilter reads one filter of a spec, "user:deploy" for example.
func ParseFilter(text string) (Filter, error) {
	kind, name, hasName := strings.Cut(text, ":")
	filter := Filter{Kind: Kind(kind), Name: name}
	switch {
	case hasName && !filter.Kind.named():
	case filter.Kind == kindAny, filter.Kind.known():
		return filter, nil
	}
	return Filter{}, fmt.Errorf("%q is no filter: %w", text, errFilter)
}

// title is what the handler is called.
func (s Spec) title() string {
	if s.Name != "" {
		return s.Name
	}
	return s.String()
}

// String writes the spec so that ParseSpec reads the same spec again. The
// filter is always written, even when it is *, and settings never are.
func (s Spec) String() string {
	var b strings.Builder
	for i, filter := range s.Filters {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(filter.String())
	}
	b.WriteByte('=')
	b.WriteString(s.Program)
	return b.String()
}

func (f Filter) String() string {
	if f.Name == "" {
		return string(f.Kind)
	}
	return string(f.Kind) + ":" + f.Name
}

// Matches reports whether the handler runs for e. An event of a kind that
// nobody knows matches nothing, not even *.
func (s Spec) Matches(e Event) bool {
	if !e.Kind.known() {
		return false
	}
	for _, filter := range s.Filters {
		if filter.matches(e) {
			return true
		}
	}
	return false
}

func (f Filter) matches(e Event) bool {
	if f.Kind == kindAny {
		return true
	}
	return f.Kind == e.Kind && (f.Name == "" || f.Name == e.Name)
}
