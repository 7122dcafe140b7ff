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
	settingsFD = 3 // a job as JSON
	statusFD   = 4 // what became of it, see parseStatus
	programFD  = 5 // what is executed: the program or its interpreter
	probeFD    = 6 // rehearsals only: what is executed in its place
	scriptFD   = 7 // rehearsals of scripts only: the script
)

// job is everything the shim is told. It travels in an unnamed file that only
// the two can reach: arguments and environment are for everybody to read.
type job struct {
	answers bool // what is printed answers a query; not for the shim

	Program string // as configured, for messages

	Argv []string
	Env  []string
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
	Rehearsal     string            // the first argument of the program that is not executed; empty: a run
	Script        bool              // scriptFD is there
}

// executed is the descriptor of what the shim executes.
func (j *job) executed() int {
	if j.Rehearsal != "" {
		return probeFD
	}
	return programFD
}

// given are the descriptors that a shim of this job gets besides the first five. Any
// other number may be one that its runtime has opened.
func (j *job) given() []int {
	fds := []int{programFD}
	if j.Rehearsal != "" {
		fds = append(fds, probeFD)
	}
	if j.Script {
		fds = append(fds, scriptFD)
	}
	return fds
}

func (c *confinement) newJob(program string, dir *scratch, argv, env []string) (*job, error) {
	j := &job{
		Program: program,
		Argv:    argv, Env: env, Work: dir.work,
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
		return j, nil
	}
	j.Namespaces, j.OwnUsers = map[string]string{}, c.ownUsers()
	if !j.OwnUsers {
		j.Parent = 0
	}
	if c.ownUsers() {
		j.Groups, j.CountOwn = groupsSeen(c.account.groups, c.account.gid), c.limitsProcesses()
	}
	for _, ns := range c.runNamespaces() {
		id, err := namespaceID(ns.name)
		if err != nil {
			return nil, fmt.Errorf("namespaces: %w", err)
		}
		j.Namespaces[ns.name] = id
	}
	return j, nil
}

// file writes the job where the shim can read it. A file, unlike a pipe, takes
// any amount without anybody reading at the other end.
func (j *job) file() (*os.File, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("job", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), "job")
	if _, err = file.Write(text); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func readJob(from io.Reader) (*job, error) {
	var j job
	decoder := json.NewDecoder(from)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&j); err != nil {
		return nil, fmt.Errorf("reading the job: %w", err)
	}
	return &j, nil
}

// What the shim writes to the status pipe: readyMark right before it executes
// the program, then nothing if that worked, because the pipe closes. If
// anything fails it writes what, with or without the mark before it. A shim that
// stays as process 1 writes endedMark and the program's wait status at the end.
// Only the shim ever holds the pipe, so this is not the handler's word.
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
