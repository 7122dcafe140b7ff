package arch

import (
	"bytes"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// checkTopLevel finds what does not belong at the top of the tree.
func (t tree) checkTopLevel() (problems []string) {
	var seen []string
	for _, name := range t.names {
		top, _, _ := strings.Cut(name, "/")
		if !slices.Contains(topLevel, top) && !slices.Contains(seen, top) {
			seen = append(seen, top)
			problems = append(problems, fmt.Sprintf("%s is not a name of the top level", top))
		}
	}
	return problems
}

// machinePath is an absolute path that is true on one machine only. Before it
// stands nothing that could belong to a path: in ./home/x or ${dir}/root/x it is
// relative.
var machinePath = regexp.MustCompile(`(?m)(?:^|[^\w.~/)}$-])(/(?:work|root|home|Users)/[\w.][^\s"'` + "`" + `]*)`)

// checkPaths looks into every file that is text.
func (t tree) checkPaths() (problems []string) {
	for _, name := range t.names {
		text, err := fs.ReadFile(t.files, name)
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		if bytes.IndexByte(text, 0) >= 0 {
			continue // not text
		}
		for _, match := range machinePath.FindAllSubmatch(text, -1) {
			problems = append(problems, fmt.Sprintf("%s contains %s, a path of one machine", name, match[1]))
		}
	}
	return problems
}
