package handler

import (
	"errors"
	"os"
)

// pipe has an end that is ours and one that is the handler's.
type pipe struct{ ours, theirs *os.File }

func (p pipe) close() {
	p.ours.Close()
	p.theirs.Close()
}

// plumbing is what joins a run to the agent. Standard output and standard error stay
// apart, because only the first answers a query.
type plumbing struct{ stdin, stdout, stderr, hatch pipe }

func newPlumbing(owner account) (*plumbing, error) {
	var p plumbing
	var failed [4]error
	p.stdin.theirs, p.stdin.ours, failed[0] = os.Pipe()
	p.stdout.ours, p.stdout.theirs, failed[1] = os.Pipe()
	p.stderr.ours, p.stderr.theirs, failed[2] = os.Pipe()
	p.hatch, failed[3] = newHatch()
	err := errors.Join(failed[:]...)
	for _, file := range []*os.File{p.stdin.theirs, p.stdout.theirs, p.stderr.theirs} {
		if err == nil {
			err = owner.give(file)
		}
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return &p, nil
}

// closeTheirs closes the handler's ends, once it has them.
func (p *plumbing) closeTheirs() {
	for _, pipe := range []pipe{p.stdin, p.stdout, p.stderr, p.hatch} {
		pipe.theirs.Close()
	}
}

func (p *plumbing) close() {
	for _, pipe := range []pipe{p.stdin, p.stdout, p.stderr, p.hatch} {
		pipe.close() // What was never made or is closed already is no matter.
	}
}
