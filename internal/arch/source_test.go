package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// checkComments wants the first page of the manual in every package.
func (t tree) checkComments() (problems []string) {
	for _, name := range slices.Sorted(maps.Keys(t.packages)) {
		files := t.packages[name].files
		written := slices.ContainsFunc(files, func(f source) bool { return !f.generated })
		if written && !slices.ContainsFunc(files, hasPackageComment) {
			problems = append(problems, fmt.Sprintf("%s has no package comment", name))
		}
	}
	return problems
}

func hasPackageComment(f source) bool {
	name, text := f.syntax.Name.Name, f.syntax.Doc.Text()
	return strings.HasPrefix(text, "Package "+name+" ") || name == "main" && text != ""
}

// checkInit finds what runs by itself. Generated code is not ours to change.
func (t tree) checkInit() (problems []string) {
	for file := range t.written() {
		for _, declared := range file.syntax.Decls {
			f, ok := declared.(*ast.FuncDecl)
			if ok && f.Recv == nil && f.Name.Name == "init" {
				problems = append(problems, fmt.Sprintf("%s has an init function: let main call it", file.path))
			}
		}
	}
	return problems
}

// memberlistOff are the settings of memberlist that take a part of the security
// from us, or lay its own framing around ours: they stay at their zero value.
var memberlistOff = []string{"SecretKey", "EnableCompression", "Label", "SkipInboundLabelCheck"}

// memberlistNever are the parts of memberlist that encrypt or open sockets.
var memberlistNever = []string{"NewKeyring", "NewNetTransport", "NetTransport", "NetTransportConfig"}

// checkMemberlist looks at the product's files that import memberlist. It reads
// names and no types, which is enough for the names it looks for.
func (t tree) checkMemberlist() (problems []string) {
	for file := range t.written() {
		if file.test || !slices.ContainsFunc(file.syntax.Imports, isMemberlist) {
			continue
		}
		ast.Inspect(file.syntax, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.SelectorExpr:
				if nameOf(node.X) == "memberlist" && slices.Contains(memberlistNever, node.Sel.Name) {
					problems = append(problems, fmt.Sprintf("%s uses memberlist.%s: keys and sockets are ours", file.path, node.Sel.Name))
				}
			case *ast.KeyValueExpr:
				problems = append(problems, switchedOn(file.path, nameOf(node.Key), node.Value)...)
			case *ast.AssignStmt:
				for i := range min(len(node.Lhs), len(node.Rhs)) {
					problems = append(problems, switchedOn(file.path, nameOf(node.Lhs[i]), node.Rhs[i])...)
				}
			}
			return true
		})
	}
	return problems
}

func switchedOn(path, field string, value ast.Expr) []string {
	if !slices.Contains(memberlistOff, field) || isZero(value) {
		return nil
	}
	return []string{fmt.Sprintf("%s sets memberlist's %s: it stays off, see the design of packets", path, field)}
}

func isZero(value ast.Expr) bool {
	if literal, ok := value.(*ast.BasicLit); ok {
		return literal.Kind == token.STRING && len(literal.Value) == len(`""`)
	}
	return nameOf(value) == "nil" || nameOf(value) == "false"
}

// nameOf returns the last word of a name, with or without dots before it.
func nameOf(expression ast.Expr) string {
	switch e := expression.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func isMemberlist(spec *ast.ImportSpec) bool {
	imported, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
	return imported == "github.com/hashicorp/memberlist"
}

// written iterates over the files that people write, in the order of their paths.
func (t tree) written() func(yield func(source) bool) {
	return func(yield func(source) bool) {
		for _, name := range slices.Sorted(maps.Keys(t.packages)) {
			for _, file := range t.packages[name].files {
				if !file.generated && !yield(file) {
					return
				}
			}
		}
	}
}
