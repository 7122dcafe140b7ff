// Package metrics shows an agent's figures to whoever watches it: numbers in the
// text format of Prometheus, by HTTP, on a listener of its own that is off unless a
// setting names it. There is no name, payload or key among them, nobody has to prove
// anything, and nothing can be changed by it.
//
// The format is written here: the agent counts by itself, and client_golang, with
// nothing to do but print that, would bring seven modules and 4 MB into the process
// that holds the keys.
package metrics

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is how a figure behaves.
type Kind string

// The kinds.
const (
	Gauge   Kind = "gauge"   // goes up and down
	Counter Kind = "counter" // goes up until the agent ends
)

// Metric is a figure, or several that differ in one label.
type Metric struct {
	Name, Help string
	Kind       Kind
	// Label names what tells the values apart; it is empty when there is one. How
	// many there can be must not depend on what others do.
	Label  string
	Values map[string]float64 // by the label's value, or by ""
}

// One is a metric with one value.
func One(name, help string, kind Kind, value float64) Metric {
	return Metric{Name: name, Help: help, Kind: kind, Values: map[string]float64{"": value}}
}

// Append appends metrics in the text format, version 0.0.4. Names, help and labels are
// ours: letters, digits and blanks.
func Append(dst []byte, all []Metric) []byte {
	out := bytes.NewBuffer(dst)
	for _, m := range all {
		fmt.Fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", m.Name, m.Help, m.Name, m.Kind)
		labels := make([]string, 0, len(m.Values))
		for label := range m.Values {
			labels = append(labels, label)
		}
		slices.Sort(labels)
		for _, label := range labels {
			out.WriteString(m.Name)
			if m.Label != "" {
				fmt.Fprintf(out, "{%s=%q}", m.Label, label)
			}
			fmt.Fprintf(out, " %s\n", strconv.FormatFloat(m.Values[label], 'g', -1, 64))
		}
	}
	return out.Bytes()
}

// Limits on who asks: one that watches needs one connection, and a call takes it a
// moment. Everybody is a stranger here, and whoever holds all connections keeps out
// others for so long, and nothing else of the agent.
const (
	maxConnections = 8
	callTimeout    = 5 * time.Second
	idleTimeout    = 30 * time.Second
	maxHeader      = 4 << 10
)

// Descriptors is how many descriptors the listener may hold, its own included.
const Descriptors = maxConnections + 2 // one is being closed

// NewServer serves what gather returns, at /metrics and nowhere else.
func NewServer(gather func() []Metric) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(Append(nil, gather())) // whoever does not read it has gone
	})
	return &http.Server{
		Handler:           http.MaxBytesHandler(mux, 0),
		ReadHeaderTimeout: callTimeout,
		ReadTimeout:       callTimeout,
		WriteTimeout:      callTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          quiet,
	}
}

// ParseAddr reads unix:PATH or ADDRESS:PORT and returns what net.Listen takes. A
// wildcard is refused: everybody who reaches it may read, so who that is must be said.
func ParseAddr(s string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !strings.HasPrefix(path, "/") || len(path) > maxSocketPath {
			return "", "", fmt.Errorf("%q: want unix: and an absolute path of at most %d bytes", s, maxSocketPath)
		}
		return "unix", path, nil
	}
	at, err := parseAddrPort(s)
	if err != nil {
		return "", "", err
	}
	return "tcp", at.String(), nil
}
