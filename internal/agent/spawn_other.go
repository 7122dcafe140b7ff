//go:build !linux

package agent

import (
	"io"
	"net"
	"os"

	"github.com/secgossip/secgossip/internal/home"
	"github.com/secgossip/secgossip/internal/link"
)

// networkMain does nothing: there is one process on this system, and no handler runs.
func networkMain() {}

// spawn starts the network process's part in this process.
func spawn(_ *os.File, log io.Writer) (*child, error) {
	ours, theirs := net.Pipe()
	exited := make(chan error, 1)
	go func() {
		l := link.New(theirs, link.Network)
		network(l, func(*link.Order) settle { return nil }, "", log, func() {})
		_ = l.Close() // it is over either way
		exited <- nil
	}()
	return &child{pipe: ours, exited: exited, kill: func() { theirs.Close() }}, nil
}

// account is who the network process runs as: ourselves.
type account struct {
	uid, gid int
	switched bool
}

func chooseAccount(home.Home, Settings, plan) (account, error) { return account{}, nil }
