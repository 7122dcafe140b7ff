package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// all returns what the first group of an expression matches.
func all(expression, text string) (found []string) {
	for _, match := range regexp.MustCompile(expression).FindAllStringSubmatch(text, -1) {
		found = append(found, match[1])
	}
	return found
}

// compare reports what is only in one of two sets: what a document says, and
// what the code has.
func compare(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = set(got), set(want)
	if len(want) == 0 {
		t.Fatalf("%s: found none in the code; this test looks in the wrong place", what)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s in the document:\n got %q\nwant %q", what, got, want)
	}
}

func set(list []string) []string {
	list = slices.Sorted(slices.Values(list))
	return slices.Compact(list)
}

// rows returns the cells of the first table under a heading, without its head.
func rows(t *testing.T, document, heading string) (rows [][]string) {
	t.Helper()
	_, section, ok := strings.Cut(read(t, document), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("%s has no heading %q", document, heading)
	}
	for line := range strings.Lines(section) {
		row, ok := strings.CutPrefix(strings.TrimSpace(line), "| ")
		switch {
		case ok:
			var cells []string
			for cell := range strings.SplitSeq(strings.TrimSuffix(row, "|"), " | ") {
				cells = append(cells, strings.ReplaceAll(strings.TrimSpace(cell), "`", ""))
			}
			rows = append(rows, cells)
		case len(rows) > 0:
			return rows[2:] // head and rule
		}
	}
	t.Fatalf("%s has no table under %q", document, heading)
	return nil
}

// firstCells are those of a table in commands.md.
func firstCells(t *testing.T, heading string) (cells []string) {
	t.Helper()
	for _, row := range rows(t, "commands.md", heading) {
		cells = append(cells, row[0])
	}
	return cells
}

// walk shows every node of the package in dir, tests aside.
func walk(t *testing.T, dir string, show func(ast.Node)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			show(node)
			return true
		})
	}
}

// flagsOf finds the calls that make flags: their methods end in Var, and take
// the variable and then the name.
func flagsOf(t *testing.T, dir string) (flags []string) {
	walk(t, dir, func(node ast.Node) {
		call, ok := node.(*ast.CallExpr)
		if ok && len(call.Args) >= 4 && strings.HasSuffix(method(call), "Var") {
			flags = append(flags, text(call.Args[1]))
		}
	})
	return flags
}

// usesOf finds the names of commands: what a cobra command says of itself, or is
// given to group.
func usesOf(t *testing.T, dir string) (uses []string) {
	add := func(expr ast.Expr) {
		if use := text(expr); use != "" {
			uses = append(uses, strings.Fields(use)[0])
		}
	}
	walk(t, dir, func(node ast.Node) {
		switch node := node.(type) {
		case *ast.KeyValueExpr:
			if key, ok := node.Key.(*ast.Ident); ok && key.Name == "Use" {
				add(node.Value)
			}
		case *ast.CallExpr:
			if called, ok := node.Fun.(*ast.Ident); ok && called.Name == "group" {
				add(node.Args[0])
			}
		}
	})
	return uses
}

// logKeysOf finds the keys of log attributes: slog.String("key", value), pairs in
// a call of a logger, and pairs in a list that is handed to one.
func logKeysOf(t *testing.T, dir string) []string {
	keys := make(map[string]bool)
	pairs := func(list []ast.Expr) {
		for i := 0; i+1 < len(list) && text(list[i]) != ""; i += 2 {
			keys[text(list[i])] = true
		}
	}
	walk(t, dir, func(node ast.Node) {
		switch node := node.(type) {
		case *ast.CallExpr:
			name, args := method(node), node.Args
			switch owner := owner(node); {
			case owner == "slog" && len(args) == 2:
				pairs(args)
			case !strings.HasSuffix(strings.ToLower(owner), "logger"):
			case name == "With":
				pairs(args)
			case slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, name):
				pairs(args[1:])
			}
		case *ast.CompositeLit:
			if list, ok := node.Type.(*ast.ArrayType); ok && list.Len == nil {
				if element, ok := list.Elt.(*ast.Ident); ok && element.Name == "any" {
					pairs(node.Elts)
				}
			}
		}
	})
	return slices.Collect(maps.Keys(keys))
}

// method is the name of the method or function of a package that is called.
func method(call *ast.CallExpr) string {
	if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
		return selector.Sel.Name
	}
	return ""
}

// owner is the last word of whose method it is.
func owner(call *ast.CallExpr) string {
	if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
		switch x := selector.X.(type) {
		case *ast.Ident:
			return x.Name
		case *ast.SelectorExpr:
			return x.Sel.Name
		}
	}
	return ""
}

// text is a literal text, empty for anything else.
func text(expr ast.Expr) string {
	literal, ok := expr.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return ""
	}
	value, _ := strconv.Unquote(literal.Value) // the parser has checked it
	return value
}
