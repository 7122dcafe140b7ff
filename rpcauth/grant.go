package rpcauth

import (
	"fmt"
	"slices"
	"strings"
)

// Verb is what a grant allows. The verbs that end in a colon take a glob over
// names; the others stand alone.
type Verb string

// Every verb there is. README and manual print this list; an unknown verb is
// refused, so that a new verb never means anything to an agent that predates it.
const (
	MembersRead Verb = "members:read" // list members, read an agent's figures
	Monitor     Verb = "monitor"      // follow events and logs
	FireEvent   Verb = "event:"       // fire events whose name fits the glob
	AskQuery    Verb = "query:"       // ask queries whose name fits the glob
	AnswerQuery Verb = "answer:"      // answer, for a node, queries whose name fits the glob
	KeysRead    Verb = "keys:read"    // list epochs, never keys
	KeysRotate  Verb = "keys:rotate"  // start, use and remove epochs
	NodeTags    Verb = "node:tags"    // change an agent's tags
	NodeJoin    Verb = "node:join"    // make an agent join addresses
	NodeLeave   Verb = "node:leave"   // make an agent leave and stop
	NodeEvict   Verb = "node:evict"   // evict, ban and unban members
	TokenMint   Verb = "token:mint"   // mint narrower tokens
	EnrollMint  Verb = "enroll:mint"  // invite new nodes
	Admin       Verb = "admin"        // all of the above
)

// Limits of grants. 64 grants are more than there are verbs, and a person can
// still read them; 80 bytes hold the longest verb and a glob over the longest
// event name.
const (
	MaxGrants    = 64
	maxGrantSize = 80
)

// plainVerbs are the verbs that take no glob.
var plainVerbs = []Verb{
	MembersRead, Monitor, KeysRead, KeysRotate, NodeTags, NodeJoin, NodeLeave,
	NodeEvict, TokenMint, EnrollMint, Admin,
}

// globVerbs are the verbs that take one.
var globVerbs = []Verb{FireEvent, AskQuery, AnswerQuery}

// Grant is one permission as a token carries it: a verb, followed by a glob if
// the verb takes one. In a glob `*` stands for any run of characters, the empty
// one too, and `?` for exactly one. Values come from ParseGrant, EventGrant or
// a verb that stands alone.
type Grant string

// ParseGrant reads one grant. It accepts one spelling of each and normalises
// nothing, so that the grant an operator typed is the grant that is signed.
func ParseGrant(text string) (Grant, error) {
	if len(text) > maxGrantSize {
		return "", fmt.Errorf("grant of %d bytes: %d is the most", len(text), maxGrantSize)
	}
	if slices.Contains(plainVerbs, Verb(text)) {
		return Grant(text), nil
	}
	for _, verb := range globVerbs {
		if glob, ok := strings.CutPrefix(text, string(verb)); ok {
			if err := checkGlob(glob); err != nil {
				return "", fmt.Errorf("grant %q: %w", text, err)
			}
			return Grant(text), nil
		}
	}
	return "", fmt.Errorf("unknown grant %q; the grants are %s", text, grantList())
}

// ParseGrants reads a whole list, as a command's flags give it, and returns it
// in the order in which it is signed: sorted, each once.
func ParseGrants[T ~string](texts []T) ([]Grant, error) {
	grants := make([]Grant, 0, len(texts))
	for _, text := range texts {
		grant, err := ParseGrant(string(text))
		if err != nil {
			return nil, err
		}
		grants = append(grants, grant)
	}
	slices.Sort(grants)
	grants = slices.Compact(grants)
	if len(grants) == 0 {
		return nil, fmt.Errorf("no grants: a token without any allows nothing")
	}
	if len(grants) > MaxGrants {
		return nil, fmt.Errorf("%d grants: %d is the most", len(grants), MaxGrants)
	}
	return grants, nil
}

// EventGrant is the grant that firing the named event needs.
func EventGrant(name string) Grant { return Grant(FireEvent) + Grant(name) }

// QueryGrant is the grant that asking the named query needs.
func QueryGrant(name string) Grant { return Grant(AskQuery) + Grant(name) }

// AnswerGrant is the grant that answering the named query in a node's name needs.
// It is not QueryGrant: whoever may ask could then answer in the place of the host,
// and be believed by the others who ask. Nor is it Monitor, which only reads.
func AnswerGrant(name string) Grant { return Grant(AnswerQuery) + Grant(name) }

// Verb is the grant's verb, the empty one if the grant is not from ParseGrant.
func (g Grant) Verb() Verb {
	for _, verb := range globVerbs {
		if strings.HasPrefix(string(g), string(verb)) {
			return verb
		}
	}
	if slices.Contains(plainVerbs, Verb(g)) {
		return Verb(g)
	}
	return ""
}

// Allows reports whether g covers need. A need may itself hold a glob: it is
// covered only when every name it fits is sure to fit g as well.
func (g Grant) Allows(need Grant) bool {
	verb := need.Verb()
	switch {
	case verb == "" || g.Verb() == "":
		return false
	case g == Grant(Admin):
		return true
	case g.Verb() != verb:
		return false
	case !slices.Contains(globVerbs, verb):
		return true
	}
	return globCovers(string(g[len(verb):]), string(need[len(verb):]))
}

// Narrower reports whether every grant in child is allowed by one grant in
// parent. A child that two parents allow only together is refused: no list of
// grants can be widened by a rule that is simple enough to be read.
func Narrower(child, parent []Grant) bool {
	return !slices.ContainsFunc(child, func(c Grant) bool { return !allowed(parent, c) })
}

// allowed reports whether any of grants covers need.
func allowed(grants []Grant, need Grant) bool {
	return slices.ContainsFunc(grants, func(g Grant) bool { return g.Allows(need) })
}

// allowedVerb reports whether any of grants is for the verb, whatever its glob.
func allowedVerb(grants []Grant, verb Verb) bool {
	return slices.ContainsFunc(grants, func(g Grant) bool { return g == Grant(Admin) || g.Verb() == verb })
}

// grantList names every grant for an error text.
func grantList() string {
	var names []string
	for _, verb := range plainVerbs {
		names = append(names, string(verb))
	}
	for _, verb := range globVerbs {
		names = append(names, string(verb)+"GLOB")
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
