package handler

import (
	"fmt"
	"slices"
)

// keptOutput is how much of each end of a stream is kept: 32 KiB of the start
// say what a handler set out to do, 32 KiB of the end how it fared. With 64
// results of two streams each the history holds 8 MiB at most.
const keptOutput = 32 << 10

// Output is what a handler wrote to one stream.
type Output struct {
	Head    []byte // the first 32 KiB
	Tail    []byte // the last 32 KiB of what did not fit into Head
	Omitted int64  // bytes between the two that were not kept
}

// Bytes returns what was kept. It is everything if Omitted is 0, which an
// answer to a query has to ask for.
func (o Output) Bytes() []byte { return slices.Concat(o.Head, o.Tail) }

// String returns what was kept with a mark where something is missing.
func (o Output) String() string {
	if o.Omitted == 0 {
		return string(o.Bytes())
	}
	return fmt.Sprintf("%s\n[%d bytes omitted]\n%s", o.Head, o.Omitted, o.Tail)
}

// MaxAnswer is the longest answer to a query in bytes. Of a handler that answers
// queries so much of standard output is held while it runs.
const MaxAnswer = 1 << 20

// capture collects an Output of any length in bounded memory.
type capture struct {
	answers bool   // all of it is kept, as long as it can be an answer
	answer  []byte // nil when it got too long
	head    []byte
	tail    []byte // never longer than 2 * keptOutput
	total   int64
}

// Write never fails: a handler must not be stopped by what it says.
func (c *capture) Write(p []byte) (int, error) {
	written := len(p)
	c.total += int64(written)
	if c.answers && c.total <= MaxAnswer {
		c.answer = append(c.answer, p...)
	} else {
		c.answer = nil
	}
	fits := min(keptOutput-len(c.head), len(p))
	c.head = append(c.head, p[:fits]...)
	p = p[fits:]
	if len(p) > keptOutput {
		p = p[len(p)-keptOutput:]
	}
	c.tail = append(c.tail, p...)
	if len(c.tail) > keptOutput {
		c.tail = c.tail[:copy(c.tail, c.tail[len(c.tail)-keptOutput:])]
	}
	return written, nil
}

func (c *capture) output() Output {
	return Output{
		Head:    c.head,
		Tail:    c.tail,
		Omitted: c.total - int64(len(c.head)) - int64(len(c.tail)),
	}
}

// excerpt is the end of the output, quoted for a log: at most 256 bytes of text
// that a handler, and so perhaps the network, has a say in (threat C13).
func (o Output) excerpt() string {
	const most = 256
	end := o.Tail
	if len(end) == 0 {
		end = o.Head
	}
	return fmt.Sprintf("%q", end[max(0, len(end)-most):])
}
