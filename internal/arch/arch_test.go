// Package arch holds the tests of the source tree itself: which package may
// import which, what lies at the top level, and what no file may contain.
//
// The rules are data, in layout_test.go. To add a package, add its row; to add
// an arrow, argue for it in the commit that adds the word.
package arch

import (
	"go/ast"
	"io/fs"
	"os"
	"testing"
)

// module is the path before every package of ours.
const module = "github.com/secgossip/secgossip"

// checks are the rules, by the claim each stands for.
var checks = map[string]func(tree) []string{
	"imports follow the layout":         func(t tree) []string { return t.checkImports(layout) },
	"every row is a package":            func(t tree) []string { return t.checkRows(layout) },
	"every package has a comment":       tree.checkComments,
	"nothing runs before main":          tree.checkInit,
	"memberlist decides no security":    tree.checkMemberlist,
	"the top level holds known names":   tree.checkTopLevel,
	"no file names a machine's folders": tree.checkPaths,
}

func TestTreeKeepsTheRules(t *testing.T) {
	tree, err := readTree(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.packages) < 5 {
		t.Fatalf("found %d packages: this is not the tree", len(tree.packages))
	}
	for claim, check := range checks {
		t.Run(claim, func(t *testing.T) {
			for _, problem := range check(tree) {
				t.Error(problem)
			}
		})
	}
}

// tree is what the checks look at.
type tree struct {
	files    fs.FS
	names    []string           // all files, by path, without what .gitignore names
	ignored  []string           // patterns of .gitignore
	packages map[string]*folder // by path
}

// folder is one package with its tests.
type folder struct {
	path  string
	files []source
}

// source is one Go file.
type source struct {
	path      string
	syntax    *ast.File
	test      bool
	generated bool
}
