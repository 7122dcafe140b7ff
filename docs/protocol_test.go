package docs

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	wireFolder      = "../secgossip/internal/wire"
	transportFolder = "../secgossip/internal/transport"
)

func TestLimitsOfTheProtocolAreThoseOfTheCode(t *testing.T) {
	var want []string
	for name, value := range constantsOf(t, wireFolder, "limits.go") {
		if ast.IsExported(name) {
			want = append(want, name+" = "+value.ExactString())
		}
	}
	var got []string
	for _, row := range rows(t, "protocol.md", "### 8.1. Sizes and numbers") {
		got = append(got, row[0]+" = "+figure(t, row[1]))
	}
	compare(t, "limits", got, want)
}

// Not every constant of the transport is the peer's business, but those in the
// document are what they are in the code.
func TestTimesOfTheProtocolAreThoseOfTheCode(t *testing.T) {
	constants := constantsOf(t, transportFolder, "*.go")
	for _, row := range rows(t, "protocol.md", "### 8.2. Times and shares") {
		value, ok := constants[row[0]]
		if !ok {
			t.Errorf("protocol.md names %s, and the transport has none", row[0])
		} else if got := figure(t, row[1]); got != value.ExactString() {
			t.Errorf("%s: protocol.md has %s, the code %s", row[0], got, value)
		}
	}
}

func TestPacketTypesAreThoseOfTheCode(t *testing.T) {
	var got, want []string
	for _, row := range rows(t, "protocol.md", "## 5. Packets") {
		got = append(got, row[0]+" "+strings.ReplaceAll(row[1], " ", ""))
	}
	for name, value := range constantsOf(t, wireFolder, "door.go") {
		if kind, ok := strings.CutPrefix(name, "Packet"); ok {
			want = append(want, value.ExactString()+" "+strings.ToLower(kind))
		}
	}
	compare(t, "packet types", got, want)
}

func TestFramesAndTheirSizesAreThoseOfTheCode(t *testing.T) {
	constants := constantsOf(t, wireFolder, "*.go")
	var got, want []string
	for _, row := range rows(t, "protocol.md", "### 7.3. Frames") {
		got = append(got, row[0]+" "+row[1]+" "+figure(t, row[3]))
	}
	walk(t, wireFolder, func(node ast.Node) {
		function, ok := node.(*ast.FuncDecl)
		if !ok || function.Name.Name != "maxBody" {
			return
		}
		ast.Inspect(function, func(node ast.Node) bool {
			if clause, ok := node.(*ast.CaseClause); ok && len(clause.List) == 1 {
				frame := clause.List[0].(*ast.Ident).Name
				size, ok := evaluate(constants, clause.Body[0].(*ast.ReturnStmt).Results[0])
				if !ok {
					t.Errorf("%s: its size is no constant", frame)
					return true
				}
				want = append(want, fmt.Sprintf("%s %s %s", constants[frame], strings.TrimPrefix(frame, "Frame"), size))
			}
			return true
		})
	})
	compare(t, "frames", got, want)
}

// A label that the document leaves out is a derivation that its argument about keys
// does not cover.
func TestLabelsAreThoseOfTheCode(t *testing.T) {
	var got, want []string
	for _, row := range rows(t, "protocol.md", "## 10. Why no two keys are the same") {
		got = append(got, row[0])
	}
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			want = append(want, all(`"(secgossip/1 [a-z ]+)(?:\\x00)?"`, read(t, path))...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// In package comments a label stands as it does here.
	compare(t, "labels", got, want)
}

// The code names sections of the document, as in "Protocol 4.2.".
func TestSectionsThatTheCodeNamesExist(t *testing.T) {
	document := read(t, "protocol.md")
	sections := all(`(?m)^#+ ([\d.]+)\. `, document)
	exists := make(map[string]bool)
	for _, section := range sections {
		exists[section] = true
	}
	named := func(path, expression string) {
		for _, section := range all(expression, read(t, path)) {
			if !exists[section] {
				t.Errorf("%s names section %s of the protocol, and there is none", path, section)
			}
		}
	}
	named("protocol.md", `[Ss]ection ((?:[1-9]|1[01])(?:\.\d)?)\b(?:[^.\d]|\.\s|$)`)
	count := 0
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			count += len(all(`Protocol ([\d]+(?:\.\d)?)\b`, read(t, path)))
			named(path, `Protocol ([\d]+(?:\.\d)?)\b`)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if count < 8 {
		t.Errorf("%d references to sections in the code: they or this test are not what they were", count)
	}
}

// figure reads "1,216", "15 s" or "200 ms" as the code has it.
func figure(t *testing.T, cell string) string {
	t.Helper()
	number, unit, hasUnit := strings.Cut(strings.ReplaceAll(cell, ",", ""), " ")
	value, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		t.Fatalf("%q is no figure", cell)
	}
	if hasUnit {
		one, err := time.ParseDuration("1" + unit)
		if err != nil {
			t.Fatalf("%q is no time", cell)
		}
		value *= int64(one)
	}
	return strconv.FormatInt(value, 10)
}

// constantsOf computes the constants in some files of a package, those that are
// numbers or times. It needs no compiler: their arithmetic is simple.
func constantsOf(t *testing.T, dir, pattern string) map[string]constant.Value {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s in %s (%v)", pattern, dir, err)
	}
	pending := make(map[string]ast.Expr)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			general, ok := declaration.(*ast.GenDecl)
			if !ok || general.Tok != token.CONST {
				continue
			}
			for _, spec := range general.Specs {
				values := spec.(*ast.ValueSpec)
				for i, value := range values.Values {
					pending[values.Names[i].Name] = value
				}
			}
		}
	}
	known := make(map[string]constant.Value)
	for again := true; again; {
		again = false
		for name, expr := range pending {
			if value, ok := evaluate(known, expr); ok {
				known[name] = value
				delete(pending, name)
				again = true
			}
		}
	}
	return known
}

// evaluate computes an expression of known constants.
func evaluate(known map[string]constant.Value, expr ast.Expr) (constant.Value, bool) {
	switch expr := expr.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(expr.Value, expr.Kind, 0), expr.Kind == token.INT
	case *ast.Ident:
		value, ok := known[expr.Name]
		return value, ok
	case *ast.ParenExpr:
		return evaluate(known, expr.X)
	case *ast.SelectorExpr:
		unit, ok := map[string]time.Duration{
			"Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour,
		}[expr.Sel.Name]
		return constant.MakeInt64(int64(unit)), ok
	case *ast.BinaryExpr:
		x, okX := evaluate(known, expr.X)
		y, okY := evaluate(known, expr.Y)
		switch {
		case !okX || !okY:
			return nil, false
		case expr.Op == token.SHL:
			shift, ok := constant.Uint64Val(y)
			return constant.Shift(x, token.SHL, uint(shift)), ok
		case expr.Op == token.QUO:
			return constant.BinaryOp(x, token.QUO_ASSIGN, y), true // whole numbers
		}
		return constant.BinaryOp(x, expr.Op, y), true
	}
	return nil, false
}
