package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strings"
)

// readTree parses every Go file of the module, whatever its build constraints.
// Folders with a go.mod of their own are other modules: their files count, their
// packages do not.
func readTree(files fs.FS) (tree, error) {
	t := tree{files: files, packages: make(map[string]*folder)}
	if list, err := fs.ReadFile(files, ".gitignore"); err == nil {
		for line := range strings.Lines(string(list)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				t.ignored = append(t.ignored, strings.Trim(line, "/"))
			}
		}
	}
	var foreign []string
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".git" || t.ignores(name):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir():
			if _, err := fs.Stat(files, path.Join(name, "go.mod")); err == nil && name != "." {
				foreign = append(foreign, name+"/")
			}
			return nil
		}
		t.names = append(t.names, name)
		for _, other := range foreign {
			if strings.HasPrefix(name, other) {
				return nil
			}
		}
		if path.Ext(name) == ".go" && !strings.Contains("/"+name, "/testdata/") {
			return t.readSource(name)
		}
		return nil
	})
	return t, err
}

func (t tree) ignores(name string) bool {
	for _, pattern := range t.ignored {
		if match, _ := path.Match(pattern, path.Base(name)); match {
			return true
		}
	}
	return false
}

func (t tree) readSource(name string) error {
	text, err := fs.ReadFile(t.files, name)
	if err != nil {
		return err
	}
	syntax, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments)
	if err != nil {
		return err
	}
	dir := path.Dir(name)
	if t.packages[dir] == nil {
		t.packages[dir] = &folder{path: dir}
	}
	t.packages[dir].files = append(t.packages[dir].files, source{
		path:      name,
		syntax:    syntax,
		test:      strings.HasSuffix(name, "_test.go"),
		generated: ast.IsGenerated(syntax),
	})
	return nil
}

// product returns the files that are not tests.
func (f folder) product() []source {
	var files []source
	for _, file := range f.files {
		if !file.test {
			files = append(files, file)
		}
	}
	return files
}
