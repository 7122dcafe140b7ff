package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/rpcauth"
)

// memberView is a member as --json shows it.
type memberView struct {
	Name         string            `json:"name"`
	Addr         string            `json:"addr"`
	Port         uint32            `json:"port"`
	Status       string            `json:"status"`
	Tags         map[string]string `json:"tags"`
	Epoch        uint64            `json:"epoch"`
	PrincipalKey string            `json:"principal_key"`
	Path         string            `json:"path,omitempty"`
}

// memberFilter chooses members. Every expression must match the whole text.
type memberFilter struct {
	name, status string
	tags         []string

	nameRE, statusRE *regexp.Regexp
	tagREs           map[string]*regexp.Regexp
}

func newMembersCmd(e *env) *cobra.Command {
	var filter memberFilter
	var detailed bool
	cmd := &cobra.Command{
		Use:     "members",
		Short:   "List the members of the cluster",
		Example: "  secgossip members --status alive --tag role=web.*",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := filter.compile(); err != nil {
				return err
			}
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error {
				answer, err := s.ListMembers(ctx, filter.request())
				if err != nil {
					return err
				}
				views := filter.choose(answer.GetMembers())
				return e.print(map[string][]memberView{"members": views}, func(w io.Writer) {
					table(w, memberRows(views, detailed))
				})
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&filter.name, "name", "", "only members whose name matches this expression")
	flags.StringVar(&filter.status, "status", "", "only members whose status matches: "+strings.Join(statuses, ", "))
	flags.StringArrayVar(&filter.tags, "tag", nil, "`NAME=EXPRESSION`: only members whose tag matches; repeat for more")
	flags.BoolVar(&detailed, "detailed", false, "show epoch, key and path as well")
	return cmd
}

// request has the agent choose: what is wrong with an expression was said before.
func (f *memberFilter) request() *secgossipv1.ListMembersRequest {
	req := &secgossipv1.ListMembersRequest{Name: f.name, Status: f.status, Tags: make(map[string]string)}
	for _, text := range f.tags {
		name, expression, _ := strings.Cut(text, "=")
		req.Tags[name] = expression
	}
	return req
}

func (f *memberFilter) compile() error {
	var err error
	if f.nameRE, err = wholeMatch("--name", f.name); err != nil {
		return err
	}
	if f.statusRE, err = wholeMatch("--status", f.status); err != nil {
		return err
	}
	f.tagREs = make(map[string]*regexp.Regexp)
	for _, text := range f.tags {
		name, expression, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return fmt.Errorf("%w: --tag %q: want NAME=EXPRESSION", errUsage, text)
		}
		if _, twice := f.tagREs[name]; twice {
			return fmt.Errorf("%w: --tag %q is given twice", errUsage, name)
		}
		if f.tagREs[name], err = wholeMatch("--tag "+name, expression); err != nil {
			return err
		}
	}
	return nil
}

// wholeMatch compiles an expression as the agent does, of which it is a usage error
// that it does not compile.
func wholeMatch(what, expression string) (*regexp.Regexp, error) {
	compiled, err := rpcauth.WholeMatch(what, expression)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return compiled, nil
}

func (f *memberFilter) choose(members []*secgossipv1.Member) []memberView {
	views := []memberView{}
	for _, m := range members {
		if f.matches(m) {
			views = append(views, memberView{
				Name: m.GetName(), Addr: m.GetAddr(), Port: m.GetPort(), Status: m.GetStatus(),
				Tags: orEmpty(m.GetTags()), Epoch: m.GetEpoch(), PrincipalKey: m.GetPrincipalKey(),
				Path: m.GetPath(),
			})
		}
	}
	return views
}

func (f *memberFilter) matches(m *secgossipv1.Member) bool {
	if !f.nameRE.MatchString(m.GetName()) || !f.statusRE.MatchString(m.GetStatus()) {
		return false
	}
	for name, expression := range f.tagREs {
		value, ok := m.GetTags()[name]
		if !ok || !expression.MatchString(value) {
			return false
		}
	}
	return true
}

// statuses are all that a member may have.
var statuses = []string{"alive", "suspect", "failed", "leaving", "left", "evicted"}

// isLive reports whether a member of this status is one that is talked to.
func isLive(status string) bool {
	return status == "alive" || status == "suspect" || status == "leaving"
}

func orEmpty(tags map[string]string) map[string]string {
	if tags == nil {
		return map[string]string{}
	}
	return tags
}

func memberRows(views []memberView, detailed bool) [][]string {
	var rows [][]string
	for _, v := range views {
		row := []string{
			safe(v.Name),
			net.JoinHostPort(safe(v.Addr), strconv.Itoa(int(v.Port))),
			safe(v.Status),
			safe(tagText(v.Tags)),
		}
		if detailed {
			row = append(row, fmt.Sprintf("Epoch: %d", v.Epoch), "Key: "+safe(v.PrincipalKey), pathText(v.Path))
		}
		rows = append(rows, row)
	}
	return rows
}

// pathText says how packets get to a member, if they do.
func pathText(path string) string {
	switch path {
	case "":
		return ""
	case "stream":
		return "Path: stream (udp is blocked)"
	}
	return "Path: " + safe(path)
}

// tagText is k=v,k=v in the order of the names.
func tagText(tags map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		parts = append(parts, name+"="+tags[name])
	}
	return strings.Join(parts, ",")
}
