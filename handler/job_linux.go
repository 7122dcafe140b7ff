package handler

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// shimName is what the agent's executable is called when it is to be the shim.
const shimName = "secgossip-handler-shim"

// The shim's descriptors beside 0 to 2, all of which close when the program is
// executed.
const (
	cageFD    = 3 // a cage as JSON
	hatchFD   = 4 // by which it gets its job, and says what became of it: see parseStatus
	programFD = 5 // what it will execute, which it may read wherever it lies
)

// cage is what the shim is told when it is started: everything about the confinement
// of a run that is the same for all runs of its handler. It travels, as the job does,
// in an unnamed file that only the two can reach: arguments and environment are for
// everybody to read.
type cage struct {
	Work string // working directory; handlers may write there

	Roots    []string // where what may be read lies
	Readable []string // what may be read although it lies in Private
	Writable []string
	Private  []string

	UID, GID      int
	Groups        []int
	Switched      bool // the shim was started as another user
	EmptyBounding bool // the shim can and must empty the bounding set
	MinLandlock   int
	FilterCalls   bool
	CPUSeconds    uint64
	Permissions   permissions
	Namespaces    map[string]string // those of its own, with the agent's ids
	Parent        int               // process id of the agent, 0 seen from another namespace
	OwnUsers      bool              // the shim has yet to make them, in a user namespace
	CountOwn      bool              // processes are counted in the user namespace of the run alone
}

// job is what the shim gets by the hatch: one run.
type job struct {
	*cage   `json:"-"`
	answers bool // what is printed answers a query; not for the shim

	Program string // as configured, for messages

	Argv []string
	Env  []string

	Others    uint64 // what else is held against the limit on processes
	Rehearsal string // the first argument of the program that is not executed; empty: a run
	Script    bool   // of rehearsals: the script is there

	// The shim's descriptors of what came with the job.
	program int // what is executed: the program or its interpreter
	probe   int // rehearsals only: what is executed in its place
	script  int // rehearsals of scripts only: the script
}

// executed is the descriptor of what the shim executes.
func (j *job) executed() int {
	if j.Rehearsal != "" {
		return j.probe
	}
	return j.program
}

// given are where the descriptors belong that come with this job, in their order.
func (j *job) given() []*int {
	fds := []*int{&j.program}
	if j.Rehearsal != "" {
		fds = append(fds, &j.probe)
	}
	if j.Script {
		fds = append(fds, &j.script)
	}
	return fds
}

func (c *confinement) newCage(dir *scratch) (*cage, error) {
	g := &cage{
		Work:     dir.work,
		Roots:    c.roots(),
		Readable: []string{dir.program}, Writable: c.writable, Private: c.private,
		UID: c.account.uid, GID: c.account.gid, Groups: c.account.groups, Switched: c.account.switched,
		EmptyBounding: c.canEmptyBounding(),
		MinLandlock:   c.minLandlock,
		FilterCalls:   c.filterCalls,
		Permissions:   c.permissions,
		CPUSeconds:    uint64((c.timeout + time.Second - 1) / time.Second),
		Parent:        os.Getpid(),
	}
	if !c.canIsolate {
		return g, nil
	}
	g.Namespaces, g.OwnUsers = map[string]string{}, c.ownUsers()
	if !g.OwnUsers {
		g.Parent = 0
	}
	if c.ownUsers() {
		g.Groups, g.CountOwn = groupsSeen(c.account.groups, c.account.gid), c.limitsProcesses()
	}
	for _, ns := range c.runNamespaces() {
		id, err := namespaceID(ns.name)
		if err != nil {
			return nil, fmt.Errorf("namespaces: %w", err)
		}
		g.Namespaces[ns.name] = id
	}
	return g, nil
}

// memoryFile writes what the shim is told where it can read it. A file, unlike a
// pipe, takes any amount without anybody reading at the other end.
func memoryFile(name string, what any) (*os.File, error) {
	text, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), name)
	if _, err = file.Write(text); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// readFile reads what memoryFile wrote, and closes the file.
func readFile(fd int, name string, into any) error {
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	decoder := json.NewDecoder(file)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("reading the %s: %w", name, err)
	}
	return nil
}

// What the shim writes to the hatch: readyMark right before it executes the program,
// then nothing if that worked, because the hatch closes. If anything fails it writes
// what, with or without the mark before it. A shim that stays as process 1 writes
// endedMark and the program's wait status at the end. Only the shim ever holds its
// end, so this is not the handler's word.
const (
	readyMark = "ready\n"
	endedMark = "ended "
	maxStatus = 4 << 10
)

// parseStatus returns what the shim has said. end is nil if it has not said how
// the program ended.
func parseStatus(status string) (ready bool, end *unix.WaitStatus, problem string) {
	problem, ready = strings.CutPrefix(status, readyMark)
	if text, ended := strings.CutPrefix(problem, endedMark); ready && ended {
		number, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return ready, nil, problem
		}
		wait := unix.WaitStatus(number)
		return ready, &wait, ""
	}
	return ready, nil, problem
}
