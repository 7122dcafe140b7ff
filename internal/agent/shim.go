package agent

import "github.com/secgossip/secgossip/handler"

// BecomeShim turns this process into the one that confines a handler, if it was
// started as that, and never returns then. main calls it first.
func BecomeShim() { handler.ShimMain() }
