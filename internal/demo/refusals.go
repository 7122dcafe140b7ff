package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/secgossip/secgossip/internal/lab"
	"github.com/secgossip/secgossip/pki"
)

// caller makes raw calls to one agent's RPC, with whatever it is told to show.
type caller struct {
	trust *pki.Trust
	addr  string
}

// newCaller knows the cluster's root and nothing else.
func (c *cluster) newCaller(at *lab.Node) (*caller, error) {
	bundle, err := os.ReadFile(filepath.Join(c.In(memo), "bundle.pem"))
	if err != nil {
		return nil, err
	}
	trust, err := pki.ParseBundle(bundle)
	return &caller{trust, at.RPC}, err
}

// tls is the client's side of a connection; the agent has to be one of the
// cluster in every case.
func (c *caller) tls(own *tls.Certificate) *tls.Config {
	return c.trust.ClientTLS(func() (*tls.Certificate, error) { return own, nil }, "web-1", time.Now)
}

// shakeHands connects with a certificate and returns what the agent makes of it.
// A client of TLS 1.3 is done before the agent has looked, so the verdict is the
// first thing there is to read.
func (c *caller) shakeHands(ctx context.Context, own *tls.Certificate) error {
	ctx, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	dialer := &tls.Dialer{Config: c.tls(own)}
	conn, err := dialer.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Agents wait for the first request, so silence is acceptance.
	if err := conn.SetReadDeadline(time.Now().Add(lab.Patience)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// listMembers calls a procedure with a certificate and a token, none if it is
// empty, and returns the answer.
func (c *caller) listMembers(ctx context.Context, own *tls.Certificate, token string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, lab.Patience)
	defer cancel()
	url := "https://" + c.addr + "/secgossip.v1.AgentService/ListMembers"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{TLSClientConfig: c.tls(own), DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, string(content), err
}

// callWithoutRights shows who is not listened to.
func callWithoutRights(ctx context.Context, n *narrator, c *cluster) error {
	n.step("Calls to the RPC of web-1 that lack something:")
	call, err := c.newCaller(c.nodes[0])
	if err != nil {
		return err
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(c.In(memo), "client/client.crt"), filepath.Join(c.In(memo), "client/client.key"))
	if err != nil {
		return err
	}
	memoToken, memoErr := readToken(c.In(memo))
	operatorToken, operatorErr := readToken(c.In(keeper))
	if err := errors.Join(memoErr, operatorErr); err != nil {
		return err
	}

	err = call.shakeHands(ctx, new(tls.Certificate))
	if refused, ok := errors.AsType[*net.OpError](err); !ok || refused.Op != "remote error" {
		return fmt.Errorf("no client certificate: got %v, want a refusal in the handshake", err)
	}
	n.show("no client certificate: no HTTP at all, the handshake ends with %q", err)

	// Nothing but the token differs between a call that is answered and these.
	status, body, err := call.listMembers(ctx, &own, memoToken)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("memo's certificate and token: got %d %q, %v, want 200", status, body, err)
	}
	status, without, err := call.listMembers(ctx, &own, "")
	if err != nil || status != http.StatusUnauthorized {
		return fmt.Errorf("no token: got %d %q, %v, want 401", status, without, err)
	}
	n.show("memo's certificate without its token: HTTP %d %s", status, strings.TrimSpace(without))
	status, foreign, err := call.listMembers(ctx, &own, operatorToken)
	if err != nil || status != http.StatusUnauthorized || foreign != without {
		return fmt.Errorf("another's token: got %d %q, %v, want 401 %q", status, foreign, err, without)
	}
	n.show("memo's certificate with the operator's token: HTTP %d, the same words; with its own: 200", status)
	return nil
}

func readToken(home string) (string, error) {
	token, err := os.ReadFile(filepath.Join(home, "client/token"))
	return strings.TrimSpace(string(token)), err
}

// fireUngranted shows that a grant for one event is none for another.
func fireUngranted(ctx context.Context, n *narrator, c *cluster) error {
	n.step("memo fires an event outside its grants: secgossip event deploy v1")
	before, err := c.runs(ctx)
	if err != nil {
		return err
	}
	_, err = c.Ask(ctx, memo, c.nodes[0], "event", "deploy", "v1")
	refused, ok := errors.AsType[*lab.Refusal](err)
	if !ok || refused.Code != 4 || !strings.Contains(refused.Stderr, `needs the grant "event:deploy"`) {
		return fmt.Errorf("ungranted event: got %v, want exit code 4 and the grant that is missing", err)
	}
	after, err := c.runs(ctx)
	if err != nil {
		return err
	}
	if !maps.Equal(before, after) {
		return fmt.Errorf("handler runs: got %v after a refused event, want %v as before it", after, before)
	}
	message, _, _ := strings.Cut(refused.Stderr, "\n")
	n.show("%s", message)
	n.show("exit code %d, and no handler ran on any node", refused.Code)
	return nil
}

// runs is what each agent says of the handler that runs on every user event.
func (c *cluster) runs(ctx context.Context) (map[string]string, error) {
	all := make(map[string]string)
	for _, node := range c.nodes {
		info, err := c.Info(ctx, memo, node)
		if err != nil {
			return nil, err
		}
		for name, stats := range info["event_handlers"] {
			if strings.HasSuffix(name, "tell.sh") {
				all[node.Name] = stats
			}
		}
	}
	if len(all) != len(c.nodes) {
		return nil, fmt.Errorf("figures of handlers: got %v, want those of %d nodes", all, len(c.nodes))
	}
	return all, nil
}
