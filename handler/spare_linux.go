package handler

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// spareCheck is how often a spare is looked at while nothing happens: what the host
// has unmounted is kept in use by it for no longer.
const spareCheck = 10 * time.Second

// spare holds the shim for a handler's next run: it is started and confined, and waits
// for its job. That takes most of the time that lies between an event and the
// program's first instruction.
//
// It is used once, like every shim. A handler has one at most, and no more shims
// than it may have runs: whoever has ended a run starts the next after a rest
// (spareRest), and who finds none when there is an event starts one of its own.
type spare struct {
	mu       sync.Mutex
	shim     *shim // nil: none
	starting bool
	over     bool

	ending sync.WaitGroup // those that were of no use; grows under mu, until over
}

// keepSpare starts a spare for the program at path unless there is one. That it cannot
// be is no matter: the next run will say why.
func (c *confinement) keepSpare(path string) {
	if c.spare.begin() {
		c.spare.set(c.trySpare(path))
	}
}

// trySpare starts a spare. It is nil if it cannot.
func (c *confinement) trySpare(path string) *shim {
	s, err := c.newSpare(path)
	if err != nil {
		c.logger.Debug("spare not started", "err", err)
		return nil
	}
	return s
}

// begin reports whether a spare is to be started.
func (p *spare) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shim != nil || p.starting || p.over {
		return false
	}
	p.starting = true
	return true
}

// set ends what begin has begun.
func (p *spare) set(s *shim) {
	p.mu.Lock()
	p.starting = false
	over := p.over
	if !over {
		p.shim = s
	}
	p.mu.Unlock()
	if over {
		s.end()
	}
}

func (c *confinement) newSpare(path string) (*shim, error) {
	p, err := openProgram(path, c.agentUID)
	if err != nil {
		return nil, err
	}
	defer p.close()
	v, err := c.newView(p.executed()) // before anything is made of it
	if err != nil {
		return nil, err
	}
	s, err := c.newShim()
	if err != nil {
		v.close()
		return nil, err
	}
	s.view = v
	if err := s.start(p.executed()); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// take returns the spare, which is the caller's then. It is nil if there is none, or none
// that is as one that would be started now for this program.
func (p *spare) take(program *program) *shim {
	p.mu.Lock()
	s := p.shim
	p.shim = nil
	p.mu.Unlock()
	if s == nil || s.fresh(program) {
		return s
	}
	p.drop(s)
	return nil
}

// drop ends a spare that is of no use, without having an event wait for that.
func (p *spare) drop(s *shim) {
	p.mu.Lock()
	over := p.over
	if !over {
		p.ending.Go(s.end)
	}
	p.mu.Unlock()
	if over {
		s.end()
	}
}

// lend takes the spare out for somebody who will set it, or another. It is nil if there
// is none.
func (p *spare) lend() *shim {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.shim
	if s != nil {
		p.shim, p.starting = nil, true
	}
	return s
}

// end ends the spare, for ever.
func (p *spare) end() {
	p.mu.Lock()
	s := p.shim
	p.shim, p.over = nil, true
	p.mu.Unlock()
	s.end()
	p.ending.Wait()
}

// watchSpare replaces a spare that is of no use any more, and ends it with its handler.
func (c *confinement) watchSpare(ctx context.Context, path string) {
	defer c.spare.end()
	tick := time.NewTicker(spareCheck)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.renewSpare(path)
		case <-ctx.Done():
			return
		}
	}
}

// renewSpare replaces a spare that is not as one that would be started now.
func (c *confinement) renewSpare(path string) {
	s := c.spare.lend()
	if s == nil {
		return
	}
	fresh := false
	if p, err := openProgram(path, c.agentUID); err == nil {
		fresh = s.fresh(p)
		p.close()
	}
	if !fresh {
		s.end()
		s = c.trySpare(path)
	}
	c.spare.set(s)
}

// fresh reports whether a spare that has waited is as one that would be started now:
// it is silent, so it lives and has met no problem, and neither the host nor its scratch
// has changed.
func (s *shim) fresh(p *program) bool {
	conn, err := s.pipes.hatch.ours.SyscallConn()
	if err != nil {
		return false
	}
	now, err := s.c.newView(p.executed())
	if err != nil {
		return false
	}
	defer now.close()
	silent := false
	err = conn.Control(func(hatch uintptr) { silent = s.view.silent(int(hatch)) })
	return err == nil && silent && now.names == s.view.names && slices.Equal(now.seen, s.view.seen) && s.dir.untouched()
}

// view is what a shim makes its confinement of and what the host may change: a
// spare's is from when it was started.
type view struct {
	mounts int // the list of mounts, which tells when it changes
	names  unix.Utsname
	seen   []seen
}

// seen tells a file or folder from any other that has its name, and for a folder of
// which entries are allowed one by one, whether those have changed, or who may list
// them. That is not asked of the time of its latest change: each start of an agent
// sets owner and mode of its home, to what they are.
type seen struct {
	dev, ino       uint64
	written        unix.Timespec
	mode, uid, gid uint32
}

// errNoView says that the host does not let itself be looked at in time.
var errNoView = errors.New("a path that the handler may use does not answer, or an earlier look at one")

// newView looks at the host, for answerTime at most. On a file system whose server is
// gone a look comes back late or never: the next one waits for it, so that there is one
// at a time.
func (c *confinement) newView(executed *os.File) (*view, error) {
	patience := time.NewTimer(answerTime)
	defer patience.Stop()
	select {
	case c.looks <- struct{}{}:
	case <-patience.C:
		return nil, errNoView
	}
	v := new(view)
	var stat unix.Stat_t
	if err := unix.Fstat(int(executed.Fd()), &stat); err != nil {
		<-c.looks
		return nil, err
	}
	v.add(&stat, false)
	looked, late := make(chan error), make(chan struct{})
	go func() {
		err := c.look(v)
		<-c.looks
		select {
		case looked <- err:
		case <-late:
			v.close()
		}
	}()
	select {
	case err := <-looked:
		if err != nil {
			v.close()
			return nil, err
		}
		return v, nil
	case <-patience.C:
		close(late)
		return nil, errNoView
	}
}

func (v *view) add(stat *unix.Stat_t, entries bool) {
	s := seen{dev: uint64(stat.Dev), ino: stat.Ino}
	if entries {
		s.written, s.mode, s.uid, s.gid = stat.Mtim, stat.Mode, stat.Uid, stat.Gid
	}
	v.seen = append(v.seen, s)
}

// look notes everything else that restrictFiles makes rules of, and the mounts.
func (c *confinement) look(v *view) (err error) {
	if v.mounts, err = unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	if err := unix.Uname(&v.names); err != nil {
		return err
	}
	var stat unix.Stat_t
	for _, path := range c.writable {
		fd, err := openWritable(path)
		if err != nil {
			return err
		}
		err = unix.Fstat(fd, &stat)
		unix.Close(fd)
		if err != nil {
			return err
		}
		v.add(&stat, false)
	}
	for _, path := range c.roots() {
		if err := unix.Stat(path, &stat); err != nil {
			stat = unix.Stat_t{} // It need not be there.
		}
		v.add(&stat, false)
	}
	for _, path := range c.private {
		for path != "/" {
			path = filepath.Dir(path)
			if err := unix.Stat(path, &stat); err != nil {
				return err
			}
			v.add(&stat, true)
		}
	}
	return nil
}

// silent reports whether no mount has changed, and nothing was said by the hatch.
func (v *view) silent(hatch int) bool {
	events := []unix.PollFd{{Fd: int32(v.mounts), Events: unix.POLLPRI}, {Fd: int32(hatch), Events: unix.POLLIN}}
	n, err := unix.Poll(events, 0)
	return err == nil && n == 0
}

func (v *view) close() {
	if v != nil {
		unix.Close(v.mounts) // -1 if there is none
	}
}
