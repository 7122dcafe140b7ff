package metrics

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFiguresAreInTheTextFormat(t *testing.T) {
	got := string(Append(nil, []Metric{
		One("secgossip_epoch", "Number of the epoch in use.", Gauge, 7),
		{Name: "secgossip_members", Help: "Members by status.", Kind: Gauge, Label: "status", Values: map[string]float64{"failed": 0, "alive": 2.5e9}},
	}))
	want := `# HELP secgossip_epoch Number of the epoch in use.
# TYPE secgossip_epoch gauge
secgossip_epoch 7
# HELP secgossip_members Members by status.
# TYPE secgossip_members gauge
secgossip_members{status="alive"} 2.5e+09
secgossip_members{status="failed"} 0
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestMetricsAddressNamesWhoMayRead(t *testing.T) {
	for s, want := range map[string]string{
		"127.0.0.1:7374":                    "tcp 127.0.0.1:7374",
		"[::1]:7374":                        "tcp [::1]:7374",
		"203.0.113.7:7374":                  "tcp 203.0.113.7:7374",
		"unix:/run/secgossip.sock":          "unix /run/secgossip.sock",
		"0.0.0.0:7374":                      "",
		"[::]:7374":                         "",
		":7374":                             "",
		"127.0.0.1":                         "",
		"localhost:7374":                    "",
		"unix:run.sock":                     "",
		"unix:":                             "",
		"unix:/" + strings.Repeat("x", 107): "",
	} {
		network, address, err := ParseAddr(s)
		if got := strings.TrimSpace(network + " " + address); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", s, got, err, want)
		}
	}
}

// serve runs a server on a socket of its own and returns a client for it.
func serve(t *testing.T, path string) *http.Client {
	t.Helper()
	listener, err := Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(func() []Metric { return []Metric{One("secgossip_epoch", "E.", Gauge, 1)} })
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	dial := &net.Dialer{}
	transport := &http.Transport{DisableKeepAlives: true}
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial.DialContext(ctx, "unix", path) }
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func TestNothingButTheFiguresIsServed(t *testing.T) {
	client := serve(t, filepath.Join(t.TempDir(), "s"))
	for path, want := range map[string]int{"/metrics": 200, "/": 404, "/debug/pprof/": 404, "/metrics/x": 404} {
		answer, err := client.Get("http://agent" + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: got %d, want %d", path, answer.StatusCode, want)
		}
	}
	answer, err := client.Post("http://agent/metrics", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 405 {
		t.Errorf("a POST: got %d, want 405", answer.StatusCode)
	}
}

// Whoever comes beyond the limit is closed at once, and room is made by whoever goes.
func TestConnectionsAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	client := serve(t, path)
	var held []net.Conn
	for range maxConnections {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("G")); err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	if _, err := client.Get("http://agent/metrics"); err == nil {
		t.Errorf("one more than %d connections is served", maxConnections)
	}
	held[0].Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		answer, err := client.Get("http://agent/metrics")
		if err == nil {
			io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("when one has gone: %v", err)
		}
	}
}

func TestOnlyASocketThatNobodyHasIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	stale, taken, file := filepath.Join(dir, "stale"), filepath.Join(dir, "taken"), filepath.Join(dir, "file")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false) // as after a kill
	left.Close()
	serve(t, taken)
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{stale: "", taken: "is in use", file: "is no socket"} {
		listener, err := Listen("unix", path)
		if listener != nil {
			listener.Close()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", filepath.Base(path), err, want)
		}
	}
}
