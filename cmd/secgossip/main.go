// Command secgossip is cluster membership and signed events for hosts that share
// only a hostile network: the agent, and the commands that talk to it.
package main

import (
	"os"

	"github.com/secgossip/secgossip/internal/agent"
)

func main() {
	agent.Become()
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
