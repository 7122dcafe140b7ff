// Package lab runs agents as processes, for the demo, tests and benchmarks.
//
// It uses the secgossip program from the outside, as an operator would: homes
// come from `init` and `pki issue`, answers from commands with --json. A [Lab] is
// one folder with all of that in it, and a [Node] one agent. A [Network] gives
// agents addresses of their own on one host, where a packet filter can stand
// between them.
//
// Nothing here waits without a deadline, and nothing is left once a lab and its
// networks are removed.
package lab

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Lab is a program and the folder that everything lies in.
//
//	web-1 web-2 memo ...     homes, 0700
//	handlers/                the handlers' programs
//	output/                  what they write, a file for each node
//	scratch/                 the agents' TMPDIR, where handlers run
//	logs/                    a log for each node
//
// All but the homes and logs is open to the user that handlers run as.
type Lab struct {
	Bin      string // the program, as an absolute path
	Path     string // the folder
	Handlers Account

	passphrase string // of the root, once there is one; it goes with the folder
}

// New makes the folder of a lab, named after what it is for. It leaves nothing
// when it fails.
func New(bin, purpose string) (l *Lab, err error) {
	l = &Lab{Bin: bin}
	if l.Handlers, err = HandlerAccount(); err != nil {
		return nil, err
	}
	// In /tmp whatever TMPDIR says: the user that handlers run as must be able
	// to get there.
	if l.Path, err = os.MkdirTemp("/tmp", "secgossip-"+purpose+"-"); err != nil {
		return nil, err
	}
	err = errors.Join(
		os.Chmod(l.Path, 0o755),
		l.mkdir("handlers", 0o755), l.mkdir("output", 0o755), l.mkdir("scratch", 0o755), l.mkdir("logs", 0o700),
	)
	if err != nil {
		return nil, errors.Join(err, l.Remove())
	}
	return l, nil
}

// Remove takes the folder away. Stop the agents first.
func (l *Lab) Remove() error { return os.RemoveAll(l.Path) }

// In is the path of a name in the folder: of a home, by the name of its node or
// client.
func (l *Lab) In(name string) string { return filepath.Join(l.Path, name) }

// Program is the path of a handler's program.
func (l *Lab) Program(name string) string { return l.In(filepath.Join("handlers", name)) }

// Output is the file that handlers of a node may write to.
func (l *Lab) Output(node string) string { return l.In(filepath.Join("output", node+".txt")) }

// Log is the file that a node's agent writes to.
func (l *Lab) Log(node string) string { return l.In(filepath.Join("logs", node+".log")) }

// WriteProgram makes a handler's program.
func (l *Lab) WriteProgram(name, script string) error {
	return errors.Join(os.WriteFile(l.Program(name), []byte(script), 0o755), os.Chmod(l.Program(name), 0o755))
}

func (l *Lab) mkdir(name string, mode fs.FileMode) error {
	// Chmod, because a umask may have taken bits away.
	return errors.Join(os.Mkdir(l.In(name), mode), os.Chmod(l.In(name), mode))
}
