package agent

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Threat L10: figures are numbers under labels of ours, with no name among them.
func TestMetricsNameNobody(t *testing.T) {
	at := newHome(t)
	leaks := goleak.IgnoreCurrent()
	dir, err := os.MkdirTemp("", "m") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	settings := loopback().Merge(Settings{MetricsAddr: "unix:" + path})
	settings.Tags = map[string]string{"role": "secret-role"}
	a, err := Start(at, settings, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	answer, err := client.Get("http://agent/metrics")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, want := range []string{
		"secgossip_members{status=\"alive\"} 1\n", "secgossip_members{status=\"failed\"} 0\n", "secgossip_epoch 1\n",
		"secgossip_keepers_alive 1\n", "secgossip_nodes_behind 0\n", "secgossip_rotations_total 0\n",
		"secgossip_gossip_total{what=\"drop_door\"} 0\n", "secgossip_gossip_total{what=\"strangers_dropped\"} 0\n",
		"secgossip_rpc_total{what=\"strangers_dropped\"} 0\n", "secgossip_handler_total{what=\"runs\"} 0\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	line := regexp.MustCompile(`^([a-z_]+)(\{(status|what)="[a-z_]+"\})? -?[0-9.e+-]+$`)
	for _, got := range slices.Collect(strings.Lines(text)) {
		got = strings.TrimSuffix(got, "\n")
		if !strings.HasPrefix(got, "#") && !line.MatchString(got) {
			t.Errorf("%q is more than a number under a label of ours", got)
		}
	}
	for _, name := range []string{"web-1", "demo", "secret-role"} {
		if strings.Contains(text, name) {
			t.Errorf("%q is shown", name)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket after the agent has ended: %v", err)
	}
	goleak.VerifyNone(t, leaks)
}
