package home

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
)

const passphrase = "correct horse battery staple"

// fixture is what the tests share: homes of two clusters, made once. Tests work
// on copies.
type fixture struct {
	keeper  Home // cluster demo: root, node web-1, operator
	node    Home // web-2 of it
	client  Home // alice of it
	foreign Home // cluster other: root, node web-1, operator
}

var shared = sync.OnceValues(func() (fixture, error) {
	dir, err := os.MkdirTemp("", "secgossip-home-test-")
	if err != nil {
		return fixture{}, err
	}
	at := func(name string) Home { return Home(filepath.Join(dir, name)) }
	f := fixture{at("keeper"), at("node"), at("client"), at("foreign")}
	ctx, now := background(), time.Now()
	return f, errors.Join(
		f.keeper.Init(ctx, request("demo", "web-1"), now),
		f.foreign.Init(ctx, request("other", "web-1"), now),
		f.keeper.IssueNode(ctx, f.node, NodeOrder{Name: "web-2"}, refuseToAsk, now),
		f.keeper.IssueClient(ctx, f.client, ClientOrder{Name: "alice", Grants: []rpcauth.Grant{"event:deploy"}}, refuseToAsk, now),
	)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if f, err := shared(); err == nil {
		os.RemoveAll(filepath.Dir(string(f.keeper)))
	}
	os.Exit(code)
}

func homes(t *testing.T) fixture {
	t.Helper()
	f, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func request(cluster, node pki.Name) InitRequest {
	return InitRequest{Cluster: cluster, Node: node, Passphrase: []byte(passphrase), WorkFactor: 15, RPCAddr: "127.0.0.1:7373"}
}

func ask(text string) Passphrase { return func() ([]byte, error) { return []byte(text), nil } }

// refuseToAsk is for what must work without the root.
func refuseToAsk() ([]byte, error) { return nil, errors.New("the passphrase was asked for") }

// copyOf is a home of its own for a test.
func copyOf(t *testing.T, from Home) Home {
	t.Helper()
	to := filepath.Join(t.TempDir(), "home")
	err := filepath.WalkDir(string(from), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, string(from)))
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.Mkdir(target, info.Mode().Perm())
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
	return Home(to)
}

// put puts the file called name of another home into h.
func put(t *testing.T, h, from Home, name string) {
	t.Helper()
	content, err := os.ReadFile(from.path(name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.path(name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// tree says of everything below dir what it is: mode and content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[name] = info.Mode().String()
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files[name] += " " + string(content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// mustBe fails the test unless dir holds just what it held before.
func mustBe(t *testing.T, dir string, before map[string]string) {
	t.Helper()
	if after := tree(t, dir); !maps.Equal(after, before) {
		t.Errorf("%s was changed: it holds %q, before %q", dir,
			slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)))
	}
}

// wantHint fails the test unless err is target and comes with a next step that
// holds the given text.
func wantHint(t *testing.T, err, target error, text string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("got %v, want %v", err, target)
		return
	}
	var problem *Problem
	if !errors.As(err, &problem) || !strings.Contains(problem.Hint(), text) {
		t.Errorf("%v: got the hint %q, want one with %q", err, hintOf(err), text)
	}
}

func hintOf(err error) string {
	var problem *Problem
	if errors.As(err, &problem) {
		return problem.Hint()
	}
	return ""
}
