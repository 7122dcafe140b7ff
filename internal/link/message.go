package link

import (
	"errors"
	"fmt"

	"github.com/secgossip/secgossip/internal/cose"
)

// Message is one of the types below.
type Message interface {
	kind() byte
	check() error // what the encoding lets pass and no honest sender writes
}

// The kinds of messages. Those of the runner are below 32, those of the network
// process are not.
const (
	kindOrder byte = iota + 1
	kindStop
	kindCheck
	kindApply
	kindReloaded
	kindHandler
	kindRun
	kindReport
	kindAnswer
	kindDiscovered
)
const (
	kindRunning byte = iota + 32
	kindSigned
	kindMembers
	kindQuery
	kindIssuer
	kindRevocation
	kindTags
	kindAsk
	kindReread
	kindChecked
	kindApplied
	kindFinal
	kindEpoch
	kindDiscover
)

// Limits of what is inside a frame.
const (
	// MaxOutput is what is kept of one output of a run: its first and last 32 KiB.
	MaxOutput = 64 << 10
	// MaxAnswer is the most that answers a query, as package handler has it.
	MaxAnswer = 1 << 20
	// MaxPayload is the most that travels beside an event, as rpcauth has it.
	MaxPayload = 1 << 20
	// MaxMembers is how many members one event is about at most. With 64 bytes of name
	// and 512 of tags each they fit a frame of theirs.
	MaxMembers = 1024
	// MaxHandlers is how many handlers are shown.
	MaxHandlers = 1024
	// MaxRuns is how many runs are shown, all that package handler keeps.
	MaxRuns = 64
	// MaxText bounds an error with its hint: settings have many problems at once.
	MaxText = 8 << 10
	// MaxDetail bounds what is said about a layer.
	MaxDetail = 1 << 10
	// MaxName bounds names, kinds and event ids.
	MaxName = 256
	// MaxProviders is how many programs are asked for addresses.
	MaxProviders = 16
	// MaxAddresses is how many addresses one of them names, and MaxAddress how long each
	// is at most, as package discover has it.
	MaxAddresses = 64
	MaxAddress   = 261

	maxSigned      = 4 << 10 // rpcauth.MaxEventSize
	maxCertificate = 2 << 10 // of an issuer, as in pki
	maxStatement   = 2 << 10 // a revocation, and the credential beside it
	maxTags        = 64
	maxSettings    = 48 << 10
	maxLayers      = 32
)

// limit is how large the inside of a frame of this kind may be. Most are small; each
// of the others is as large as what it is made for.
func limit(kind byte) int {
	switch kind {
	case kindRun:
		return 2*MaxOutput + MaxFrame
	case kindAnswer:
		return MaxAnswer + MaxFrame
	case kindSigned:
		return MaxPayload + MaxFrame
	case kindHandler:
		return 3 * MaxFrame
	case kindMembers, kindReloaded:
		return 1 << 20
	}
	return MaxFrame
}

// Order is the first message: what the network process is to be.
type Order struct {
	Home     string `cbor:"1,keyasint"` // as operators know it
	Settings []byte `cbor:"2,keyasint"` // the agent's to read
	Handlers string `cbor:"3,keyasint"` // what the banner says of them
	Switch   bool   `cbor:"4,keyasint"` // become the user below
	UID      int    `cbor:"5,keyasint"`
	GID      int    `cbor:"6,keyasint"`
}

// Stop asks the network process to end: at once, or after it has taken leave of the
// cluster. A second one means at once.
type Stop struct {
	Leave bool `cbor:"1,keyasint"`
}

// Check is the first half of a reload: settings, and files of the home, as they are
// now. The network process can read none of them any more. It says by Checked whether
// it could use them, and changes nothing.
type Check struct {
	Number      uint64 `cbor:"1,keyasint"`
	Settings    []byte `cbor:"2,keyasint"`
	Bundle      []byte `cbor:"3,keyasint"`
	Certificate []byte `cbor:"4,keyasint"`
	Credential  []byte `cbor:"5,keyasint"`
}

// Apply is the second half: use what was checked, or forget it. Applied answers the
// former.
type Apply struct {
	Number uint64 `cbor:"1,keyasint"`
	Use    bool   `cbor:"2,keyasint"`
}

// Reloaded answers a Reread: what is other than before, or why nothing is.
type Reloaded struct {
	Ask      uint64   `cbor:"1,keyasint"`
	Added    []string `cbor:"2,keyasint"`
	Removed  []string `cbor:"3,keyasint"`
	Changed  []string `cbor:"4,keyasint"`
	Settings []string `cbor:"5,keyasint"`
	Restart  []string `cbor:"6,keyasint"`
	Problem  string   `cbor:"7,keyasint"`
}

// Handler says how one handler fares. It comes before the Report of the same number.
type Handler struct {
	Ask      uint64   `cbor:"1,keyasint"`
	Number   int      `cbor:"2,keyasint"`
	Spec     string   `cbor:"3,keyasint"`
	Title    string   `cbor:"4,keyasint"`
	Program  string   `cbor:"5,keyasint"`
	Filters  []string `cbor:"6,keyasint"`
	User     string   `cbor:"7,keyasint"` // empty: the runner's
	Running  int      `cbor:"8,keyasint"`
	Waiting  int      `cbor:"9,keyasint"`
	Runs     uint64   `cbor:"10,keyasint"`
	Failures uint64   `cbor:"11,keyasint"`
	Dropped  uint64   `cbor:"12,keyasint"`
	Last     int64    `cbor:"13,keyasint"` // microseconds since 1970; 0: never
	Degraded string   `cbor:"14,keyasint"`
	Layers   []Layer  `cbor:"15,keyasint"` // what confines it
	BySpare  uint64   `cbor:"16,keyasint"` // of Runs
}

// Run is what became of one run. It comes before the Report of the same number.
type Run struct {
	Ask           uint64 `cbor:"1,keyasint"`
	Handler       int    `cbor:"2,keyasint"`
	Program       string `cbor:"3,keyasint"`
	Event         string `cbor:"4,keyasint"` // its kind
	Name          string `cbor:"5,keyasint"`
	EventID       string `cbor:"6,keyasint"`
	Principal     string `cbor:"7,keyasint"`
	Started       bool   `cbor:"8,keyasint"`
	ExitCode      int    `cbor:"9,keyasint"`
	Problem       string `cbor:"10,keyasint"`
	Begin         int64  `cbor:"11,keyasint"` // microseconds since 1970
	Duration      int64  `cbor:"12,keyasint"` // microseconds
	Stdout        []byte `cbor:"13,keyasint"`
	StdoutOmitted int64  `cbor:"14,keyasint"`
	Stderr        []byte `cbor:"15,keyasint"`
	StderrOmitted int64  `cbor:"16,keyasint"`
}

// Report ends the answer to an Ask.
type Report struct {
	Ask     uint64 `cbor:"1,keyasint"`
	Refused uint64 `cbor:"2,keyasint"` // events that the runner would not believe
}

// Layer is one of the things that confine a handler.
type Layer struct {
	Name     string `cbor:"1,keyasint"`
	Enforced bool   `cbor:"2,keyasint"`
	Detail   string `cbor:"3,keyasint"`
}

// Answer is what the handlers have to say to a Query, once for each.
type Answer struct {
	Query  string `cbor:"1,keyasint"`
	Output []byte `cbor:"2,keyasint"`
	Found  bool   `cbor:"3,keyasint"` // whether they say anything
}

// Discovered answers a Discover: where nodes may be. Of a provider that failed it has
// what was found all the same.
type Discovered struct {
	Ask       uint64   `cbor:"1,keyasint"`
	Provider  int      `cbor:"2,keyasint"`
	Addresses []string `cbor:"3,keyasint"`
	Problem   string   `cbor:"4,keyasint"`
	Runs      uint64   `cbor:"5,keyasint"` // so far
	Failures  uint64   `cbor:"6,keyasint"` // of these
}

// Running says that the agent runs.
type Running struct{}

// Signed is an event of a client, as it was signed. The runner judges it itself. Which
// node took it in from the client is the network process's word.
type Signed struct {
	Raw     []byte `cbor:"1,keyasint"`
	Origin  string `cbor:"2,keyasint,omitempty"`
	Payload []byte `cbor:"3,keyasint,omitempty"` // one that is beside the event
}

// Members is a member event: nothing of it is signed, so it is the network process's
// word.
type Members struct {
	Event   string   `cbor:"1,keyasint"`
	Members []Member `cbor:"2,keyasint"`
}

// Member is one of those that a member event is about.
type Member struct {
	Name string            `cbor:"1,keyasint"`
	Addr []byte            `cbor:"2,keyasint"` // 4 or 16 bytes; none if it is not known
	Tags map[string]string `cbor:"3,keyasint"`
}

// Epoch is a step of an epoch's life, likewise.
type Epoch struct {
	Number uint64 `cbor:"1,keyasint"`
	Action string `cbor:"2,keyasint"`
	Reason string `cbor:"3,keyasint"`
	Keeper string `cbor:"4,keyasint"`
}

// Query is a query of a client, as it was signed, for handlers to answer.
type Query struct {
	Query    string `cbor:"1,keyasint"` // its id, which the Answer names
	Raw      []byte `cbor:"2,keyasint"`
	Deadline int64  `cbor:"3,keyasint"` // milliseconds since 1970; what is signed may end it sooner
}

// Issuer is an issuer's certificate, in DER, for the runner to verify.
type Issuer struct {
	Certificate []byte `cbor:"1,keyasint"`
}

// Revocation is a revocation and the credential of its keeper, for the runner to
// verify.
type Revocation struct {
	Statement  []byte `cbor:"1,keyasint"`
	Credential []byte `cbor:"2,keyasint"`
}

// Tags are this node's tags from now on.
type Tags struct {
	Tags map[string]string `cbor:"1,keyasint"`
}

// Ask asks how each handler fares, or for the latest runs.
type Ask struct {
	Ask     uint64 `cbor:"1,keyasint"`
	Runs    int    `cbor:"2,keyasint"` // how many runs at most; 0: handlers, and no run
	EventID string `cbor:"3,keyasint"` // of runs: this event's alone
	Handler int    `cbor:"4,keyasint"` // of runs: this handler's alone; -1: of all
}

// Reread asks the runner to read settings and identity again, which Reloaded answers.
type Reread struct {
	Ask uint64 `cbor:"1,keyasint"`
}

// Checked answers a Check.
type Checked struct {
	Number  uint64 `cbor:"1,keyasint"`
	Problem string `cbor:"2,keyasint"` // empty: all of it can be used
	Hint    string `cbor:"3,keyasint"`
}

// Applied answers an Apply.
type Applied struct {
	Number   uint64   `cbor:"1,keyasint"`
	Settings []string `cbor:"2,keyasint"` // which are others than before
	Problem  string   `cbor:"3,keyasint"`
}

// Discover asks what a provider prints, by its number among those of the settings.
type Discover struct {
	Ask      uint64 `cbor:"1,keyasint"`
	Provider int    `cbor:"2,keyasint"`
}

// Final is the last message: how the agent ended.
type Final struct {
	Problem string `cbor:"1,keyasint"` // empty: well
	Hint    string `cbor:"2,keyasint"`
	Setup   bool   `cbor:"3,keyasint"` // with the same settings and home it would end so again
}

func (*Order) kind() byte      { return kindOrder }
func (*Stop) kind() byte       { return kindStop }
func (*Check) kind() byte      { return kindCheck }
func (*Apply) kind() byte      { return kindApply }
func (*Reloaded) kind() byte   { return kindReloaded }
func (*Handler) kind() byte    { return kindHandler }
func (*Run) kind() byte        { return kindRun }
func (*Report) kind() byte     { return kindReport }
func (*Answer) kind() byte     { return kindAnswer }
func (*Discovered) kind() byte { return kindDiscovered }
func (*Running) kind() byte    { return kindRunning }
func (*Signed) kind() byte     { return kindSigned }
func (*Members) kind() byte    { return kindMembers }
func (*Query) kind() byte      { return kindQuery }
func (*Issuer) kind() byte     { return kindIssuer }
func (*Revocation) kind() byte { return kindRevocation }
func (*Tags) kind() byte       { return kindTags }
func (*Ask) kind() byte        { return kindAsk }
func (*Reread) kind() byte     { return kindReread }
func (*Checked) kind() byte    { return kindChecked }
func (*Applied) kind() byte    { return kindApplied }
func (*Final) kind() byte      { return kindFinal }
func (*Epoch) kind() byte      { return kindEpoch }
func (*Discover) kind() byte   { return kindDiscover }

// empty is a message of a kind that this side may send, to be filled; nil if there is
// none.
func (s Side) empty(kind byte) Message {
	var all []Message
	if s == Runner {
		all = []Message{
			new(Order), new(Stop), new(Check), new(Apply), new(Reloaded), new(Handler), new(Run), new(Report), new(Answer),
			new(Discovered),
		}
	} else {
		all = []Message{
			new(Running), new(Signed), new(Members), new(Query), new(Issuer), new(Revocation), new(Tags), new(Ask),
			new(Reread), new(Checked), new(Applied), new(Final), new(Epoch), new(Discover),
		}
	}
	for _, m := range all {
		if m.kind() == kind {
			return m
		}
	}
	return nil
}

// Parse reads the inside of a frame that this side has sent: it accepts exactly what
// Append writes.
func (s Side) Parse(frame []byte) (Message, error) {
	if len(frame) == 0 {
		return nil, errors.New("empty frame")
	}
	m := s.empty(frame[0])
	if m == nil {
		return nil, fmt.Errorf("message of kind %d: there is none that may come from there", frame[0])
	}
	if len(frame) > limit(frame[0]) {
		return nil, fmt.Errorf("message of kind %d: %w", frame[0], errTooMuch)
	}
	if err := cose.Unmarshal(frame[1:], m); err != nil {
		return nil, fmt.Errorf("message of kind %d: %w", frame[0], err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("message of kind %d: %w", frame[0], err)
	}
	return m, nil
}

// Append writes the inside of a frame behind to.
func Append(to []byte, m Message) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	body, err := cose.Marshal(m)
	if err != nil {
		return nil, err
	}
	if most := limit(m.kind()); len(body)+1 > most {
		return nil, fmt.Errorf("a message of %d bytes: %d is the most", len(body)+1, most)
	}
	return append(append(to, m.kind()), body...), nil
}

var errTooMuch = errors.New("more than a message may hold")

func bound(ok bool) error {
	if !ok {
		return errTooMuch
	}
	return nil
}

// within reports whether no text has more bytes.
func within(most int, texts ...string) bool {
	for _, text := range texts {
		if len(text) > most {
			return false
		}
	}
	return true
}

func (m *Order) check() error {
	const maxPath = 4 << 10
	return bound(within(maxPath, m.Home, m.Handlers) && len(m.Settings) <= maxSettings &&
		m.UID >= 0 && m.GID >= 0 && (!m.Switch || m.UID > 0 && m.GID > 0))
}

func (*Stop) check() error { return nil }

// The frame bounds what the files may be: together they have 3 KiB.
func (m *Check) check() error { return bound(len(m.Settings) <= maxSettings) }

func (*Apply) check() error { return nil }

func (m *Reloaded) check() error {
	ok := within(MaxText, m.Problem)
	for _, list := range [][]string{m.Added, m.Removed, m.Changed, m.Settings, m.Restart} {
		ok = ok && len(list) <= MaxHandlers && within(MaxName, list...)
	}
	return bound(ok)
}

func (m *Handler) check() error {
	return bound(m.Number >= 0 && m.Number < MaxHandlers && m.Running >= 0 && m.Waiting >= 0 &&
		within(MaxText, m.Spec, m.Title, m.Program, m.Degraded) && within(MaxName, m.User) &&
		len(m.Filters) <= MaxName && within(MaxName, m.Filters...) && boundLayers(m.Layers))
}

func (m *Run) check() error {
	return bound(m.Handler >= 0 && m.Duration >= 0 && m.StdoutOmitted >= 0 && m.StderrOmitted >= 0 &&
		within(MaxText, m.Program, m.Problem) && within(MaxName, m.Event, m.Name, m.EventID, m.Principal) &&
		len(m.Stdout) <= MaxOutput && len(m.Stderr) <= MaxOutput)
}

func (*Report) check() error { return nil }

func boundLayers(layers []Layer) bool {
	ok := len(layers) <= maxLayers
	for _, layer := range layers {
		ok = ok && within(MaxName, layer.Name) && within(MaxDetail, layer.Detail)
	}
	return ok
}

func (m *Answer) check() error {
	return bound(len(m.Output) <= MaxAnswer && within(MaxName, m.Query))
}

func (m *Discovered) check() error {
	return bound(boundProvider(m.Provider) && len(m.Addresses) <= MaxAddresses && within(MaxAddress, m.Addresses...) && within(MaxText, m.Problem))
}

func boundProvider(number int) bool { return number >= 0 && number < MaxProviders }

func (*Running) check() error { return nil }
func (m *Signed) check() error {
	return bound(len(m.Raw) <= maxSigned && len(m.Payload) <= MaxPayload && within(MaxName, m.Origin))
}

func (m *Members) check() error {
	ok := within(MaxName, m.Event) && len(m.Members) <= MaxMembers
	for _, member := range m.Members {
		ok = ok && within(MaxName, member.Name) && boundTags(member.Tags) &&
			(len(member.Addr) == 0 || len(member.Addr) == 4 || len(member.Addr) == 16)
	}
	return bound(ok)
}

func (m *Query) check() error {
	return bound(len(m.Raw) <= maxSigned && within(MaxName, m.Query))
}

func (m *Issuer) check() error { return bound(len(m.Certificate) <= maxCertificate) }

func (m *Revocation) check() error {
	return bound(len(m.Statement) <= maxStatement && len(m.Credential) <= maxStatement)
}

func (m *Tags) check() error { return bound(boundTags(m.Tags)) }

func (m *Ask) check() error {
	return bound(m.Runs >= 0 && m.Runs <= MaxRuns && m.Handler >= -1 && within(MaxName, m.EventID))
}

func (*Reread) check() error    { return nil }
func (m *Checked) check() error { return bound(within(MaxText, m.Problem, m.Hint)) }

func (m *Applied) check() error {
	return bound(len(m.Settings) <= MaxName && within(MaxName, m.Settings...) && within(MaxText, m.Problem))
}

func (m *Discover) check() error { return bound(boundProvider(m.Provider)) }

func (m *Final) check() error { return bound(within(MaxText, m.Problem, m.Hint)) }

func (m *Epoch) check() error { return bound(within(MaxName, m.Action, m.Reason, m.Keeper)) }

func boundTags(tags map[string]string) bool {
	ok := len(tags) <= maxTags
	for name, value := range tags {
		ok = ok && within(MaxName, name) && within(2*MaxName, value)
	}
	return ok
}
