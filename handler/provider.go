package handler

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// kindDiscover is what a provider is told: that addresses are wanted. It is no kind of
// event, and no filter selects it.
const kindDiscover Kind = "discover"

// Provider is a program of the operator's that prints where nodes may be. No event
// runs it but the agent, when it wants to know; whoever fires events has no say in what
// it is given. It is checked, rehearsed and confined as a handler is.
type Provider struct {
	program   string
	arguments []string
	confine   *confinement
	layers    []Layer
}

// NewProvider checks and rehearses a program. Of config it uses what New does of all
// handlers; there is no queue, no journal and no history. The arguments are the
// operator's own: the kernel shows them to whoever may list processes.
func NewProvider(config Config, program string, arguments []string) (*Provider, error) {
	if os.Args[0] == shimName {
		return nil, errors.New("internal error: handler.ShimMain was not called first in main")
	}
	spec := Spec{Filters: []Filter{{Kind: kindDiscover}}, Program: filepath.Clean(program)}
	config.Specs = []Spec{spec}
	config.Settings.Input = InputSerf
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	spec = config.Specs[0]
	p := &Provider{program: spec.Program, arguments: arguments}
	if p.confine, err = newConfinement(config); err != nil {
		return nil, err
	}
	p.layers, err = p.confine.rehearse(spec)
	return p, err
}

// Layers are what confines the program, as its rehearsal found.
func (p *Provider) Layers() []Layer { return p.layers }

// Run runs the program once, and kills it when its time is over or ctx ends. Of its
// environment, name and tags are this node's.
func (p *Provider) Run(ctx context.Context, name string, tags map[string]string) Result {
	return p.confine.provide(ctx, p.program, p.arguments, Event{Kind: kindDiscover, SelfName: name, SelfTags: tags})
}
