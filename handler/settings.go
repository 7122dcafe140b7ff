package handler

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Sandbox says what to do on a machine that cannot confine handlers fully.
type Sandbox string

const (
	// Strict refuses to run handlers there. It is what "" means.
	Strict Sandbox = "strict"
	// Reduced runs them with the layers there are. Layers says which, and
	// never running as root is not one of those that can be missing.
	Reduced Sandbox = "reduced"
)

// Input is the form in which a handler is told of an event.
type Input string

const (
	// InputSerf is Serf's: variables, and the payload or the members on
	// standard input. It is what "" means.
	InputSerf Input = "serf"
	// InputJSON is one JSON document on standard input. Nothing that came from
	// the network is in the environment then.
	InputJSON Input = "json"
)

// What holds for a handler whose settings say nothing else.
const (
	// DefaultTimeout is how long a run may take.
	DefaultTimeout = 30 * time.Second
	// DefaultConcurrency is one: the runs of a handler follow one another.
	DefaultConcurrency = 1
	// DefaultQueue is how many events wait for one handler. A handler that is
	// slower than its events loses the oldest: what is newest is nearest to how
	// things are. An event carries up to 1 MiB, which the queues of several
	// handlers share, so that 64 waiting events hold 64 MiB at the very worst.
	DefaultQueue = 64
	// DefaultMemory bounds what a process can write to in private memory, in
	// bytes: 64 processes of 256 MiB are 16 GiB at the very worst.
	DefaultMemory = 256 << 20
	// DefaultProcesses stops a fork bomb while it is harmless. It is what a run
	// may have beside whatever else runs as its user.
	DefaultProcesses = 64
	// DefaultFileSize bounds one file, not a file system, in bytes: 16 MiB hold
	// any report, and 64 open files of that size are 1 GiB at once.
	DefaultFileSize = 16 << 20
)

// The ends of what can be set. A shim does not fit into less memory; of waiting
// events and of runs at once there must be an end.
const (
	longestTimeout  = time.Hour
	mostConcurrency = 32
	mostQueue       = 1024
	leastMemory     = 4 << 20
	mostMemory      = 64 << 30
	mostProcesses   = 4096
	leastFileSize   = 1 << 10
	mostFileSize    = 64 << 30
)

// Settings are the operator's. The zero value is the strictest.
type Settings struct {
	// User runs the handlers of an agent that is root: a name or a number,
	// nobody by default. An agent that is not root can only name itself.
	User string

	// Writable are files and directories that handlers may write to. They
	// exist, and no part of their path is a symlink.
	Writable []string

	// Readable, if not empty, is all that a handler may read beside the system's
	// own folders and what is writable. Empty, it is what its user may read. The
	// agent's private files are never among it.
	Readable []string

	// Network leaves a handler the network that its user has.
	Network bool

	// Timeout is how long a run may take.
	Timeout time.Duration

	Concurrency int    // runs at once
	Queue       int    // events that wait
	Memory      uint64 // of one process, in bytes
	Processes   int
	FileSize    uint64 // of one file, in bytes

	Input Input

	// Idempotent says that a run may be repeated: one that a crash cut short is,
	// once.
	Idempotent bool

	Sandbox Sandbox
}

// under lays own over s: the settings of one handler over those of all.
func (s Settings) under(own Settings) Settings {
	return Settings{
		User:        cmp.Or(own.User, s.User),
		Writable:    slices.Concat(s.Writable, own.Writable),
		Readable:    slices.Concat(s.Readable, own.Readable),
		Network:     own.Network || s.Network,
		Timeout:     cmp.Or(own.Timeout, s.Timeout),
		Concurrency: cmp.Or(own.Concurrency, s.Concurrency),
		Queue:       cmp.Or(own.Queue, s.Queue),
		Memory:      cmp.Or(own.Memory, s.Memory),
		Processes:   cmp.Or(own.Processes, s.Processes),
		FileSize:    cmp.Or(own.FileSize, s.FileSize),
		Input:       cmp.Or(own.Input, s.Input),
		Idempotent:  own.Idempotent || s.Idempotent,
		Sandbox:     cmp.Or(own.Sandbox, s.Sandbox),
	}
}

func (s Settings) withDefaults() Settings {
	return Settings{
		Timeout: DefaultTimeout, Concurrency: DefaultConcurrency, Queue: DefaultQueue,
		Memory: DefaultMemory, Processes: DefaultProcesses, FileSize: DefaultFileSize,
		Input: InputSerf, Sandbox: Strict,
	}.under(s)
}

// Check reports every setting that makes no sense on any machine. What was left
// out is no problem.
func (s Settings) Check() error {
	s = s.withDefaults()
	var problems []error
	within := func(what string, ok bool, value, least, most any) {
		if !ok {
			problems = append(problems, fmt.Errorf("%s %v: from %v to %v", what, value, least, most))
		}
	}
	if s.Timeout < 0 {
		problems = append(problems, fmt.Errorf("handler timeout %v is negative", s.Timeout))
	}
	within("timeout", s.Timeout <= longestTimeout, s.Timeout, "1s", "1h")
	within("concurrency", s.Concurrency >= 1 && s.Concurrency <= mostConcurrency, s.Concurrency, 1, mostConcurrency)
	within("queue", s.Queue >= 1 && s.Queue <= mostQueue, s.Queue, 1, mostQueue)
	within("memory", s.Memory >= leastMemory && s.Memory <= mostMemory, s.Memory, "4MiB", "64GiB")
	within("processes", s.Processes >= 1 && s.Processes <= mostProcesses, s.Processes, 1, mostProcesses)
	within("file-size", s.FileSize >= leastFileSize && s.FileSize <= mostFileSize, s.FileSize, "1KiB", "64GiB")
	if s.Input != InputSerf && s.Input != InputJSON {
		problems = append(problems, fmt.Errorf("input %q: it is %q or %q", s.Input, InputSerf, InputJSON))
	}
	if s.Sandbox != Strict && s.Sandbox != Reduced {
		problems = append(problems, fmt.Errorf("sandbox %q: it is %q or %q", s.Sandbox, Strict, Reduced))
	}
	return errors.Join(problems...)
}
