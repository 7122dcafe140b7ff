package rpcauth

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of filters by tag. With them a receiver spends at most 8 x 1,000
// steps on each of the 255 bytes that a tag may have: some milliseconds,
// whatever a client asks for.
const (
	MaxTagFilters = 8
	MaxTagFilter  = 64  // bytes of a tag's name, as nodes have it
	MaxTagExpr    = 128 // bytes of an expression
)

// maxSteps is how many steps an expression may have when it is compiled. RE2 takes
// time in proportion to them and to the text, and a repetition such as x{1000} makes
// many of few bytes: 250 bytes can stand for 250,000 steps, which are some seconds for
// each value of a tag.
const maxSteps = 1000

// TagFilter selects nodes by one of their tags: those whose value the whole of
// Expr matches, in the syntax of RE2. A node without the tag is one whose value
// is empty, as in Serf.
type TagFilter struct {
	Tag  string `cbor:"1,keyasint"`
	Expr string `cbor:"2,keyasint,omitempty"`
}

// ParseTagFilter reads TAG=EXPR, as a command's flag has it, and refuses what no
// node would take.
func ParseTagFilter(text string) (TagFilter, error) {
	tag, expr, found := strings.Cut(text, "=")
	if !found {
		return TagFilter{}, fmt.Errorf("filter %q: write TAG=EXPRESSION", text)
	}
	f := TagFilter{Tag: tag, Expr: expr}
	if err := f.check(); err != nil {
		return TagFilter{}, err
	}
	if _, err := f.compile(); err != nil {
		return TagFilter{}, err
	}
	return f, nil
}

// sortTagFilters puts filters into the order in which they are signed, each once.
func sortTagFilters(filters []TagFilter) []TagFilter {
	filters = slices.Clone(filters)
	slices.SortFunc(filters, TagFilter.compare)
	return slices.Compact(filters)
}

func (f TagFilter) compare(other TagFilter) int {
	return cmp.Or(strings.Compare(f.Tag, other.Tag), strings.Compare(f.Expr, other.Expr))
}

// checkTagFilters checks the form of a list. It compiles nothing: what is read from
// the network is compiled when its signature has been checked.
func checkTagFilters(filters []TagFilter) error {
	if len(filters) > MaxTagFilters {
		return fmt.Errorf("%d filters by tag: %d is the most", len(filters), MaxTagFilters)
	}
	for i, f := range filters {
		if err := f.check(); err != nil {
			return err
		}
		if i > 0 && filters[i-1].compare(f) >= 0 {
			return errors.New("filters by tag out of order")
		}
	}
	return nil
}

func (f TagFilter) check() error {
	switch {
	case f.Tag == "" || len(f.Tag) > MaxTagFilter:
		return fmt.Errorf("filter of a tag whose name has %d bytes: 1 to %d are allowed", len(f.Tag), MaxTagFilter)
	case len(f.Expr) > MaxTagExpr:
		return fmt.Errorf("filter of tag %q: an expression of %d bytes, %d is the most", f.Tag, len(f.Expr), MaxTagExpr)
	case !plainText(f.Tag) || !plainText(f.Expr):
		return fmt.Errorf("filter of tag %q: text without control characters is allowed", f.Tag)
	}
	return nil
}

func plainText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// tagMatcher is a list of filters that are ready to be asked.
type tagMatcher []compiledFilter

type compiledFilter struct {
	tag  string
	expr *regexp.Regexp
}

// compileTagFilters compiles a list whose form was checked.
func compileTagFilters(filters []TagFilter) (tagMatcher, error) {
	var m tagMatcher
	for _, f := range filters {
		expr, err := f.compile()
		if err != nil {
			return nil, err
		}
		m = append(m, compiledFilter{f.Tag, expr})
	}
	return m, nil
}

func (f TagFilter) compile() (*regexp.Regexp, error) {
	compiled, err := anchored(f.Expr)
	if err != nil {
		return nil, fmt.Errorf("filter of tag %q: expression %q: %w", f.Tag, f.Expr, err)
	}
	return compiled, nil
}

// anchored compiles an expression that must match from end to end. It is parsed by
// itself first, so that nothing in it, such as a parenthesis or an open \Q, gets at the
// anchors.
func anchored(expression string) (*regexp.Regexp, error) {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, err
	}
	whole := `\A(?:` + parsed.String() + `)\z`
	if parsed, err = syntax.Parse(whole, syntax.Perl); err != nil {
		return nil, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	if steps := len(program.Inst); steps > maxSteps {
		return nil, fmt.Errorf("%d steps when compiled, %d are the most; use smaller repetitions", steps, maxSteps)
	}
	return regexp.Compile(whole)
}

// match reports whether every filter fits the tags. None fits all.
func (m tagMatcher) match(tags map[string]string) bool {
	for _, f := range m {
		if !f.expr.MatchString(tags[f.tag]) {
			return false
		}
	}
	return true
}

// maxExpression bounds an expression for members, in bytes.
const maxExpression = 256

// WholeMatch compiles an expression by which members are chosen, at most 256 bytes and
// 1,000 steps. It must match from end to end; an empty one matches everything. Errors
// begin with what.
func WholeMatch(what, expression string) (*regexp.Regexp, error) {
	if expression == "" {
		expression = "(?s).*"
	}
	if len(expression) > maxExpression {
		return nil, fmt.Errorf("%s: an expression of %d bytes: at most %d", what, len(expression), maxExpression)
	}
	compiled, err := anchored(expression)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return compiled, nil
}
