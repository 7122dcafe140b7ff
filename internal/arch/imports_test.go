package arch

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// checkImports holds every package to its row.
func (t tree) checkImports(rows []row) (problems []string) {
	table := make(map[string]row)
	for _, r := range rows {
		table[r.pkg] = r
	}
	for _, name := range slices.Sorted(maps.Keys(t.packages)) {
		pkg := t.packages[name]
		r, known := table[name]
		if !known && len(pkg.product()) > 0 {
			problems = append(problems, fmt.Sprintf("%s has no row in the layout", name))
			continue
		}
		for _, file := range pkg.files {
			for _, spec := range file.syntax.Imports {
				imported, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
				if problem := r.judge(imported, file.test); problem != "" {
					problems = append(problems, fmt.Sprintf("%s: %s imports %s, %s", file.path, name, imported, problem))
				}
			}
		}
	}
	return problems
}

// judge says what is wrong with an import, or nothing. A test may import all of
// ours that Go lets it, and the modules for tests.
func (r row) judge(imported string, test bool) string {
	const no = "which the layout does not allow"
	if reason, bad := anywhere[imported]; bad {
		return no + " anywhere: " + reason
	}
	ours, isOurs := strings.CutPrefix(imported, module+"/")
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case isOurs && !test && !slices.Contains(strings.Fields(r.ours), ours):
		return no
	case isOurs:
		return ""
	case strings.Contains(first, "."):
		if under(imported, r.theirs) || test && under(imported, testModules) {
			return ""
		}
		return no
	case !test && imported != "net/netip" && under(imported, r.never):
		return no
	}
	return ""
}

// under reports whether a path is one of the given ones or below one.
func under(name, paths string) bool {
	return slices.ContainsFunc(strings.Fields(paths), func(path string) bool {
		return name == path || strings.HasPrefix(name, path+"/")
	})
}

// checkRows finds rows whose package is gone, or misspelt.
func (t tree) checkRows(rows []row) (problems []string) {
	for _, r := range rows {
		if t.packages[r.pkg] == nil {
			problems = append(problems, fmt.Sprintf("the layout has a row for %s, which is no package", r.pkg))
		}
	}
	return problems
}
