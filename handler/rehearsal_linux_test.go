package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// rehearsed returns the names of the layers that a handler's rehearsal found
// enforced, and those that are missing.
func rehearsed(t testing.TB, c *confinement) (enforced, missing []string) {
	t.Helper()
	layers, err := c.rehearse(everyEvent(script(t, "exit 0")))
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		if layer.Detail == "" {
			t.Errorf("%s has no detail", layer.Name)
		}
		if layer.Enforced {
			enforced = append(enforced, layer.Name)
		} else {
			missing = append(missing, layer.Name)
			t.Logf("%s: %s", layer.Name, layer.Detail)
		}
	}
	return enforced, missing
}

func TestRehearsalFindsEveryLayerThatThisMachineHas(t *testing.T) {
	for name, row := range map[string]struct {
		settings Settings
		missing  []string
	}{
		"defaults":          {Settings{}, nil},
		"network":           {Settings{Network: true}, []string{layerNetwork}},
		"readable":          {Settings{Readable: []string{"/usr"}}, nil},
		"little of all":     {Settings{Memory: leastMemory, Processes: 1, FileSize: leastFileSize}, nil},
		"much of all":       {Settings{Memory: 2 << 30, Processes: mostProcesses, FileSize: 1 << 30}, nil},
		"reduced, as it is": {Settings{Sandbox: Reduced}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := confined(t, row.settings)
			_, missing := rehearsed(t, c)
			want := row.missing
			if os.Geteuid() != 0 {
				want = append([]string{layerUser}, want...)
				if !c.canIsolate {
					t.Skipf("this user gets no namespaces: %v", c.unshared)
				}
			}
			if c.newGroup == nil {
				want = append(want, layerCgroup)
			}
			if !c.keepsSignals() {
				want = append(want, layerSignals)
			}
			if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(missing))); diff != "" {
				t.Errorf("missing layers (-want +got):\n%s", diff)
			}
		})
	}
}

// Each row takes a layer away without the confinement's knowledge. Its probe must
// find that out by itself. (Who is the wrong user, or keeps a capability, the shim
// refuses before there is a probe.)
func TestRehearsalFindsALayerThatDoesNotHold(t *testing.T) {
	needRoot(t)
	for layer, row := range map[string]struct {
		could string
		spoil func(*prepared)
	}{
		layerFiles:      {"make a file outside", func(r *prepared) { r.job.Writable = append(r.job.Writable, r.dir.top+"/outside") }},
		layerCalls:      {"trace", func(r *prepared) { r.job.FilterCalls = false }},
		layerNetwork:    {"connect to the agent", func(r *prepared) { r.job.Permissions.Network = true }},
		layerLimits:     {"use much memory", func(r *prepared) { r.job.Permissions.Memory *= 4 }},
		layerBounding:   {"keep a capability in reach", func(r *prepared) { r.job.EmptyBounding = false }},
		layerScratch:    {"fill the disk", func(r *prepared) { r.job.Permissions.Scratch *= 2 }},
		layerNamespaces: {"see the agent", shareAll},
		layerLifetime:   {"leave a process behind", shareAll},
	} {
		t.Run(layer, func(t *testing.T) {
			if raceDetector && layer == layerLimits {
				t.Skip("memory is not limited under the race detector")
			}
			c := confined(t, Settings{})
			c.canIsolate = c.canIsolate && layer != layerNetwork // It alone would deny it.
			layers, err := c.rehearseOnce(everyEvent(script(t, "exit 0")), row.spoil)
			if err != nil {
				t.Fatal(err)
			}
			missing := strings.Join(c.missing(layers), "\n")
			if !strings.Contains(missing, layer+" (") || !strings.Contains(missing, row.could) {
				t.Errorf("missing are %q, want %s, because it could %q", missing, layer, row.could)
			}
		})
	}
}

func shareAll(r *prepared) { r.job.Namespaces, r.job.Parent = nil, os.Getpid() }

// A trial that could not succeed even without a layer would show nothing.
func TestEveryTrialSucceedsWithoutALayer(t *testing.T) {
	needRoot(t)
	dir, err := newScratch(folder(t), account{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.remove()
	tcp, port := bindLoopback()
	defer unix.Close(tcp)
	local, abstract := bindAbstract()
	defer unix.Close(local)
	outside, err := dir.outside()
	if err != nil {
		t.Fatal(err)
	}
	p := plan{
		Agent: os.Getpid(), Outside: outside, Private: []string{outside}, Restrict: true, Port: port, Abstract: abstract,
		UID: os.Getuid(), Switched: true, Permissions: permissions{Memory: 1 << 20, FileSize: 1 << 20, Scratch: 1 << 20},
		Namespaces: map[string]string{},
	}
	for _, ns := range namespaces {
		if p.Namespaces[ns.name], err = namespaceID(ns.name); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	leaked, err := os.Open(outside)
	if err != nil {
		t.Fatal(err)
	}
	defer leaked.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args, cmd.Dir, cmd.Stdin, cmd.ExtraFiles = []string{probeName}, dir.work, bytes.NewReader(text), []*os.File{leaked}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	breaches := make(map[string][]string)
	if err := json.NewDecoder(out).Decode(&breaches); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil { // This closes the end that the process left behind waits for.
		t.Error(err)
	}
	for _, trial := range p.trials() {
		if !slices.Contains(breaches[trial.layer], trial.what) {
			t.Errorf("%s: without any layer it could not %s", trial.layer, trial.what)
		}
	}
}
