package agent

import "github.com/secgossip/secgossip/handler"

// Become turns this process into what it was started as, if that is a part of an agent:
// the shim that confines a handler, or the network process. It never returns then.
// main calls it first.
func Become() {
	handler.ShimMain()
	networkMain()
}
