package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/term"
)

// progress shows how far each node is: on a terminal in a line of its own that
// changes, elsewhere in a line for each change. Texts are safe already.
type progress struct {
	out      io.Writer
	terminal bool
	begun    time.Time
	nodes    []nodeProgress // in the order in which they were first heard of
	drawn    int            // lines on the terminal
}

type nodeProgress struct {
	name, state string
	after       time.Duration
}

func newProgress(out io.Writer, begun time.Time) *progress {
	file, ok := out.(*os.File)
	return &progress{out: out, terminal: ok && term.IsTerminal(int(file.Fd())), begun: begun}
}

// note shows that a node has come to a state.
func (p *progress) note(node, state, detail string, now time.Time) {
	p.set(nodeProgress{node, state, now.Sub(p.begun)})
	if !p.terminal {
		fmt.Fprintf(p.out, "%s: %s%s\n", node, state, detail)
		return
	}
	if p.drawn > 0 {
		fmt.Fprintf(p.out, "\x1b[%dA", p.drawn) // up to the first of our lines
	}
	for _, n := range p.nodes {
		fmt.Fprintf(p.out, "\r\x1b[K%s: %s\n", n.name, n.state)
	}
	p.drawn = len(p.nodes)
}

// missing notes that a node did not get as far as the others.
func (p *progress) missing(node string) {
	for _, n := range p.nodes {
		if n.name == node {
			return
		}
	}
	p.nodes = append(p.nodes, nodeProgress{name: node, state: "not reached"})
}

func (p *progress) set(now nodeProgress) {
	for i, n := range p.nodes {
		if n.name == now.name {
			p.nodes[i] = now
			return
		}
	}
	p.nodes = append(p.nodes, now)
}

// rows is the table at the end: how far each node is, and after how many seconds.
func (p *progress) rows() [][]string {
	rows := [][]string{{"NODE", "STATE", "SECONDS"}}
	for _, n := range p.nodes {
		seconds := "-"
		if n.after > 0 {
			seconds = strconv.FormatFloat(n.after.Seconds(), 'f', 2, 64)
		}
		rows = append(rows, []string{n.name, n.state, seconds})
	}
	return rows
}
