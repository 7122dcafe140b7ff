package arch

// topLevel is every name the top of the tree may hold. What .gitignore names
// may lie there too.
var topLevel = []string{
	".ci", ".gitignore", "LICENSE", "Makefile", "README.md", "SECURITY.md",
	"api", "bench", "cmd", "docs", "go.mod", "go.sum", "handler", "internal",
	"keyring", "packaging", "pki", "rpcauth", "secgossip", "tools",
}

// row says what one package may import, besides the standard library.
type row struct {
	pkg  string // folder below the top
	ours string // packages of this module, separated by blanks
	// theirs are import paths of other modules, separated by blanks. A path
	// stands for everything below it.
	theirs string
	// never are packages of the standard library that this package may not
	// import, separated by blanks. A path stands for everything below it,
	// except net/netip below net: addresses are values.
	never string
}

// Parts that several rows have in common.
const (
	noSockets = "net"
	noWorld   = "net os time io/fs log crypto/rand math/rand" // nothing but its arguments
	rpcStack  = "connectrpc.com/connect/v2 google.golang.org/protobuf"
	apiParts  = "api/secgossip/v1 api/secgossip/v1/secgossipv1connect"
)

// layout is the table of packages. Arrows point one way: from the command over
// the agent to the core, from the core to its rooms, and never to a row that
// decides from one that does I/O.
var layout = []row{
	{
		pkg:    "cmd/secgossip", // commands: flags in, text or JSON out
		ours:   "internal/agent internal/home internal/rpc internal/reply rpcauth pki keyring " + apiParts,
		theirs: "github.com/spf13/cobra github.com/spf13/pflag golang.org/x/term golang.org/x/sys " + rpcStack,
	},
	{
		pkg:    "internal/agent", // wires settings, node, RPC and handlers into one running agent
		ours:   "secgossip handler internal/discover internal/home internal/link internal/rpc internal/metrics rpcauth pki keyring " + apiParts,
		theirs: "go.yaml.in/yaml/v4 golang.org/x/sys github.com/landlock-lsm/go-landlock " + rpcStack,
	},
	{
		pkg:  "internal/home", // the files of one host: identity, keyring, settings
		ours: "secgossip rpcauth pki keyring",
	},
	{
		pkg:   "internal/link", // what the two processes of an agent say to each other
		ours:  "internal/cose",
		never: "net io/fs log crypto/rand math/rand os/exec",
	},
	{
		pkg:    "internal/rpc", // strict codec, server and client of the RPC contract
		ours:   "rpcauth pki internal/places " + apiParts,
		theirs: rpcStack,
	},
	{
		pkg:   "internal/metrics", // figures for whoever watches an agent
		never: "os/exec crypto",
	},
	{
		pkg: "internal/lab", // agents as processes; only what demonstrates and tests imports it
	},
	{
		pkg:    "internal/discover", // addresses to join by
		theirs: "github.com/hashicorp/mdns",
		never:  "os io/fs crypto",
	},
	{
		pkg:   "internal/places", // the connections that strangers hold of a listener
		never: "os io/fs log crypto/rand math/rand",
	},
	{
		pkg:    "internal/demo", // the program behind make demo
		ours:   "internal/lab rpcauth pki",
		theirs: "golang.org/x/sys golang.org/x/term",
	},
	{
		pkg: "internal/field", // real agents on networks with filters, routers and two IP families: tests only
	},
	{
		pkg: "internal/epochs", // real agents whose epochs change: tests and benchmarks only
	},
	{
		pkg:   "internal/hostile", // texts that want to be taken for something else: for tests
		never: "net os time io/fs log crypto/rand",
	},
	{
		pkg: "internal/once", // real agents that are killed while handlers run: tests only
	},
	{
		pkg: "internal/siege", // what strangers do to real agents: benchmarks only
	},
	{
		pkg:    "api/secgossip/v1", // the RPC contract, generated
		theirs: "google.golang.org/protobuf",
	},
	{
		pkg:    "api/secgossip/v1/secgossipv1connect",
		ours:   "api/secgossip/v1",
		theirs: rpcStack,
	},
	{
		pkg: "secgossip", // the gossip core
		ours: "keyring pki internal/cose internal/reply secgossip/internal/wire secgossip/internal/seal " +
			"secgossip/internal/guard secgossip/internal/transport",
		// memberlist reports the problems of a join as a multierror; coordinates are
		// computed as in Serf.
		theirs: "github.com/hashicorp/memberlist github.com/hashicorp/go-multierror github.com/hashicorp/serf/coordinate",
		never:  "os/exec",
	},
	{
		pkg:   "secgossip/internal/wire", // bytes to messages and back; time.Time is a field, the clock is not read
		ours:  "internal/cose",
		never: "net os io/fs log crypto/rand math/rand",
	},
	{
		pkg:    "secgossip/internal/seal", // no socket, clock or randomness of its own
		ours:   "secgossip/internal/wire",
		theirs: "golang.org/x/crypto",
		never:  noWorld,
	},
	{
		pkg:  "secgossip/internal/guard", // who may say what about whom
		ours: "secgossip/internal/wire pki",
		// What guard judges is memberlist's messages, in memberlist's encoding.
		theirs: "github.com/hashicorp/go-msgpack/v2",
		never:  "os io/fs log crypto/rand math/rand",
	},
	{
		pkg:    "secgossip/internal/transport", // sockets
		ours:   "secgossip/internal/seal secgossip/internal/guard secgossip/internal/wire pki internal/places",
		theirs: "github.com/hashicorp/memberlist",
		never:  "os/exec",
	},
	{
		pkg: "secgossip/internal/memnet", // a network in memory; no row may import it, tests do
	},
	{
		pkg:    "keyring", // secrets
		theirs: "github.com/awnumar/memguard filippo.io/age golang.org/x/crypto golang.org/x/sys",
		never:  noSockets + " os/exec plugin",
	},
	{
		pkg:   "pki", // identities
		ours:  "internal/cose",
		never: noSockets + " os io/fs log", // its keys are signers, its files are bytes
	},
	{
		pkg:    "rpcauth", // who is calling and what they may do
		ours:   "internal/cose internal/places pki",
		theirs: "golang.org/x/time",
		never:  "os/exec",
	},
	{
		pkg:    "internal/cose", // the one kind of signed object
		theirs: "github.com/fxamacker/cbor/v2",
		never:  noWorld,
	},
	{
		pkg:   "internal/reply", // what a node says to a query
		ours:  "internal/cose",
		never: noWorld,
	},
	{
		pkg:    "handler", // runs operators' programs: nothing of ours, so that it can never reach a key
		theirs: "golang.org/x/sys github.com/landlock-lsm/go-landlock github.com/elastic/go-seccomp-bpf kernel.org/pub/linux/libs/security/libcap/psx",
		never:  noSockets,
	},
}

// anywhere are packages no row may import, with the reason.
var anywhere = map[string]string{
	"C":              "the binary is static and the same for everybody: no cgo",
	"expvar":         "it answers on the default HTTP mux, to anybody",
	"net/http/pprof": "it answers on the default HTTP mux, to anybody",
	"plugin":         "it loads code",
	"math/rand":      "what needs chance needs crypto/rand, or a seeded math/rand/v2 in a test network",
}

// testModules may be imported by every test.
const testModules = "github.com/google/go-cmp github.com/rogpeppe/go-internal go.uber.org/goleak " +
	"pgregory.net/rapid github.com/veraison/go-cose github.com/fxamacker/cbor/v2 " +
	// The genuine article, to hold guard and transport against.
	"github.com/hashicorp/memberlist github.com/hashicorp/go-msgpack/v2"
