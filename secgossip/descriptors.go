package secgossip

import "github.com/secgossip/secgossip/secgossip/internal/transport"

// Descriptors is how many file descriptors a node may hold at once: its
// connections, the journal, and one file that is being written.
const Descriptors = transport.Descriptors + 2
