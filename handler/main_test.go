package handler

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// doomedAgent is what the test binary is called when it is an agent that a
// test is going to kill. Its arguments are a program, a directory that the
// handler may write to, the scratch root, and the kind of the event that it runs
// the program for.
const doomedAgent = "secgossip-test-agent"

// TestMain makes the test binary able to be the shim, and fails if anything is
// left running when all tests are done.
func TestMain(m *testing.M) {
	// The packages of a whole agent make the runtime open what it polls with before
	// main begins. The shim must leave it that.
	early, late, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	ShimMain()
	early.Close()
	late.Close()
	switch filepath.Base(os.Args[0]) {
	case attackProgram:
		beAttack()
	case stampProgram:
		beStamp()
	}
	if os.Args[0] == doomedAgent {
		beDoomedAgent(os.Args[1], os.Args[2], os.Args[3], os.Args[4])
	}
	goleak.VerifyTestMain(m)
}

func beDoomedAgent(program, writable, scratch, kind string) {
	r, err := New(Config{
		Specs:       []Spec{{Filters: []Filter{{Kind: KindUser}}, Program: program}},
		Settings:    Settings{Writable: []string{writable}},
		ScratchRoot: scratch,
	})
	if err != nil {
		panic(err)
	}
	r.Dispatch(Event{Kind: Kind(kind), Name: "x"})
	select {}
}
