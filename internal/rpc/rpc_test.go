package rpc

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/api/secgossip/v1/secgossipv1connect"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
)

// fakeAgent answers with what it was asked.
type fakeAgent struct {
	secgossipv1connect.UnimplementedAgentServiceHandler
	gone chan struct{}
}

func (fakeAgent) FireEvent(ctx context.Context, req *secgossipv1.FireEventRequest) (*secgossipv1.FireEventResponse, error) {
	principal, ok := rpcauth.PrincipalFrom(ctx)
	if !ok {
		return nil, connect.NewError(connect.CodeInternal, "no principal")
	}
	return &secgossipv1.FireEventResponse{EventId: string(principal.Name), Ltime: uint64(len(req.Event))}, nil
}

func (fakeAgent) ListKeys(context.Context, *secgossipv1.ListKeysRequest) (*secgossipv1.ListKeysResponse, error) {
	return &secgossipv1.ListKeysResponse{Epochs: []*secgossipv1.Epoch{{Number: 7, HeldBy: 3}}}, nil
}

func (fakeAgent) GetInfo(context.Context, *secgossipv1.GetInfoRequest) (*secgossipv1.GetInfoResponse, error) {
	panic("a bug of ours")
}

// RotateKeys answers in two messages and says "dry" in the first if it was dry.
func (fakeAgent) RotateKeys(_ context.Context, req *secgossipv1.RotateKeysRequest, stream secgossipv1connect.AgentServiceRotateKeysServerStream) error {
	state := "installed"
	if req.DryRun {
		state = "reachable"
	}
	if err := stream.Send(&secgossipv1.RotateKeysResponse{Progress: []*secgossipv1.RotationProgress{{Node: "web-1", State: state}}}); err != nil {
		return err
	}
	return stream.Send(&secgossipv1.RotateKeysResponse{Summary: &secgossipv1.RotationSummary{Epoch: 8}})
}

// StreamEvents opens the stream and reports when the client is gone.
func (f fakeAgent) StreamEvents(ctx context.Context, _ *secgossipv1.StreamEventsRequest, stream secgossipv1connect.AgentServiceStreamEventsServerStream) error {
	if err := stream.Send(&secgossipv1.StreamEventsResponse{}); err != nil {
		return err
	}
	<-ctx.Done()
	f.gone <- struct{}{}
	return ctx.Err()
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func now() time.Time { return start }

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// agent is a listener as a real agent puts it together.
type agent struct {
	listener *Listener
	addr     string
	root     *pki.Authority
	trust    *pki.Trust
	log      *bytes.Buffer
	gone     chan struct{} // has one entry for each stream whose client went
}

// newAgent makes the identities.
func newAgent() *agent {
	key := testKey("root")
	der := must(pki.NewRoot("prod", key, start))
	trust := must(pki.ParseBundle(pki.EncodeCertificates([][]byte{der})))
	root := must(pki.NewAuthority(must(x509.ParseCertificate(der)), key, trust))
	return &agent{root: root, trust: trust, log: new(bytes.Buffer), gone: make(chan struct{}, 1)}
}

// serverTLS is the agent's side of TLS.
func (a *agent) serverTLS() *tls.Config {
	issued := must(a.root.Node(pki.NodeRequest{Name: "web-1", SigningKey: testKey("web-1").Public().(ed25519.PublicKey), AgreementKey: [32]byte{9}}, start))
	cert := &tls.Certificate{Certificate: issued.Chain, PrivateKey: testKey("web-1")}
	return a.trust.ServerTLS(func() (*tls.Certificate, error) { return cert, nil }, []pki.Kind{pki.KindClient}, now)
}

// serve serves handler on a free port until the test ends.
func (a *agent) serve(t *testing.T, handler http.Handler) {
	server := NewServer(handler)
	a.listener = NewListener(must(net.Listen("tcp", "127.0.0.1:0")), a.serverTLS())
	a.addr = a.listener.Addr().String()
	done := make(chan error, 1)
	go func() { done <- server.Serve(a.listener) }()
	t.Cleanup(func() { server.Close(); <-done })
}

func startAgent(t *testing.T) *agent {
	t.Helper()
	a := newAgent()
	gate := must(rpcauth.NewGate(rpcauth.GateConfig{
		Verifier: rpcauth.NewVerifier(a.trust), Rules: Rules(), Now: now, Refuse: Refuse, Audit: func(rpcauth.AuditRecord) {},
	}))
	logger := slog.New(slog.NewTextHandler(a.log, nil))
	a.serve(t, gate.Wrap(Handler(fakeAgent{gone: a.gone}, logger)))
	return a
}

// as is the TLS configuration and the token of a client with grants.
func (a *agent) as(t *testing.T, name string, grants ...rpcauth.Grant) (*tls.Config, string) {
	t.Helper()
	public := testKey(name).Public().(ed25519.PublicKey)
	issued := must(a.root.Client(pki.ClientRequest{Name: pki.Name(name), SigningKey: public}, start))
	cert := &tls.Certificate{Certificate: issued.Chain, PrivateKey: testKey(name)}
	text, _, err := rpcauth.Mint(a.root, rpcauth.TokenRequest{Subject: pki.Name(name), Key: public, Grants: grants}, start)
	if err != nil {
		t.Fatal(err)
	}
	return a.trust.ClientTLS(func() (*tls.Certificate, error) { return cert, nil }, "web-1", now), text
}

func (a *agent) client(t *testing.T, name string, grants ...rpcauth.Grant) *Client {
	t.Helper()
	config, token := a.as(t, name, grants...)
	client := NewClient(config, a.addr, func() string { return token })
	t.Cleanup(client.Close)
	return client
}

// post sends a request by hand, as curl does.
func (a *agent) post(t *testing.T, http2 bool, procedure, contentType, body string, grants ...rpcauth.Grant) *http.Response {
	t.Helper()
	config, token := a.as(t, "ops", grants...)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	transport := &http.Transport{TLSClientConfig: config, Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	r := must(http.NewRequest(http.MethodPost, "https://"+a.addr+procedure, strings.NewReader(body)))
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// must is for what cannot fail unless the test itself is wrong.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func wantCode(t *testing.T, what string, err error, want connect.Code) {
	t.Helper()
	if got := connect.CodeOf(err); err == nil || got != want {
		t.Errorf("%s: got %v (%v), want %v", what, got, err, want)
	}
}

func TestClientCallsAgent(t *testing.T) {
	client := startAgent(t).client(t, "ops", "event:deploy", "keys:rotate")
	fired, err := client.FireEvent(t.Context(), &secgossipv1.FireEventRequest{Event: make([]byte, 100)})
	if err != nil || fired.EventId != "ops" || fired.Ltime != 100 {
		t.Errorf("FireEvent: got %v, %v", fired, err)
	}
	stream, err := client.RotateKeys(t.Context(), &secgossipv1.RotateKeysRequest{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Receive()
	if err != nil || first.Progress[0].State != "reachable" {
		t.Errorf("first message: got %v, %v", first, err)
	}
	second, err := stream.Receive()
	if err != nil || second.Summary.GetEpoch() != 8 {
		t.Errorf("second message: got %v, %v", second, err)
	}
	if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last message: got %v, want io.EOF", err)
	}
}

func TestAStreamEndsWhenItsClientGoes(t *testing.T) {
	a := startAgent(t)
	stream, err := a.client(t, "ops", "monitor").StreamEvents(t.Context(), &secgossipv1.StreamEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Receive(); err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	<-a.gone
}

func TestEveryProtocolAnswersOverTLS(t *testing.T) {
	a := startAgent(t)
	config, token := a.as(t, "ops", "admin")
	config.NextProtos = []string{"h2"}
	for name, option := range map[string]connecthttp.Option{
		"connect": connecthttp.WithSendCodec("proto"), "json": connecthttp.WithSendCodec("json"),
		"grpc": connecthttp.WithGRPC(), "grpc-web": connecthttp.WithGRPCWeb(),
	} {
		transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
		ctx, call := connect.NewClientContext(t.Context())
		call.RequestHeader().Set("Authorization", "Bearer "+token)
		client := secgossipv1connect.NewAgentServiceClient(connect.NewClient(
			connecthttp.NewTransport(&http.Client{Transport: transport}, "https://"+a.addr, option)))
		fired, err := client.FireEvent(ctx, &secgossipv1.FireEventRequest{Event: make([]byte, 7)})
		if err != nil || fired.Ltime != 7 {
			t.Errorf("%s: got %v, %v", name, fired, err)
		}
		if info, ok := call.TransportInfo.(*connecthttp.ClientInfo); !ok || info.ResponseProto() != "HTTP/2.0" || info.TLS().Version != tls.VersionTLS13 {
			t.Errorf("%s: not HTTP/2 over TLS 1.3", name)
		}
		transport.CloseIdleConnections()
	}
}

func TestPlainJSONAnswersWithEveryFieldByItsName(t *testing.T) {
	a := startAgent(t)
	for _, http2 := range []bool{false, true} {
		resp := a.post(t, http2, secgossipv1connect.AgentServiceListKeysProcedure, "application/json", "{}", "keys:read")
		body := strings.ReplaceAll(string(must(io.ReadAll(resp.Body))), " ", "")
		want := `{"epochs":[{"number":"7","primary":false,"state":"","fingerprint":"","held_by":3,"sealed":"0"}],"keeper":"","rotate_every_s":"0","nodes":[]}`
		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != map[bool]int{false: 1, true: 2}[http2] || body != want {
			t.Errorf("HTTP/%d: got %d %s, want %s", resp.ProtoMajor, resp.StatusCode, body, want)
		}
	}
}

func TestJSONThatIsNotExactIsRefused(t *testing.T) {
	a := startAgent(t)
	procedure := secgossipv1connect.AgentServiceFireEventProcedure
	for _, body := range []string{
		`{"evnt":"AAAA"}`, `{"event":"AAAA","more":1}`, `{"event":"AAAA","event":"BBBB"}`, `{"event":7}`, `{"event":"AAAA"}{}`,
		`{"event":"AAAA"`, `["AAAA"]`, `null7`, ``, `{"Event":"AAAA"}`,
	} {
		resp := a.post(t, true, procedure, "application/json", body, "admin")
		answer := string(must(io.ReadAll(resp.Body)))
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(answer, "invalid_argument") {
			t.Errorf("%s: got %d %s", body, resp.StatusCode, answer)
		}
	}
	if resp := a.post(t, true, procedure, "application/json", `{"event":"AAAA"}`, "admin"); resp.StatusCode != http.StatusOK {
		t.Errorf("an exact one: got %d", resp.StatusCode)
	}
	// The field that would turn a rehearsal into a rotation.
	resp := a.post(t, true, secgossipv1connect.AgentServiceRotateKeysProcedure, "application/connect+json", "\x00\x00\x00\x00\x0f"+`{"dryrun":true}`, "admin")
	if answer := string(must(io.ReadAll(resp.Body))); !strings.Contains(answer, "invalid_argument") || strings.Contains(answer, "installed") {
		t.Errorf("a misspelt dry_run: got %q", answer)
	}
}

func TestRefusalArrivesInEveryProtocol(t *testing.T) {
	a := startAgent(t)
	config, token := a.as(t, "ops", "monitor")
	config.NextProtos = []string{"h2"}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	for name, option := range map[string]connecthttp.Option{
		"connect": connecthttp.WithSendCodec("proto"), "json": connecthttp.WithSendCodec("json"),
		"grpc": connecthttp.WithGRPC(), "grpc-web": connecthttp.WithGRPCWeb(),
	} {
		client := secgossipv1connect.NewAgentServiceClient(connect.NewClient(
			connecthttp.NewTransport(&http.Client{Transport: transport}, "https://"+a.addr, option)))
		for _, test := range []struct {
			token, text string
			want        connect.Code
		}{
			{token, `needs the grant "keys:rotate"`, connect.CodePermissionDenied},
			{"sgt_AAAA", "unauthenticated", connect.CodeUnauthenticated},
		} {
			ctx, call := connect.NewClientContext(t.Context())
			call.RequestHeader().Set("Authorization", "Bearer "+test.token)
			stream, err := client.RotateKeys(ctx, &secgossipv1.RotateKeysRequest{})
			if err == nil {
				_, err = stream.Receive()
			}
			wantCode(t, name, err, test.want)
			if err != nil && !strings.Contains(err.Error(), test.text) {
				t.Errorf("%s: got %q, want %q in it", name, err, test.text)
			}
		}
	}
}

func TestWithoutATokenOrACertificateNothingAnswers(t *testing.T) {
	a := startAgent(t)
	config, _ := a.as(t, "ops", "admin")
	client := NewClient(config, a.addr, func() string { return "" })
	defer client.Close()
	_, err := client.ListKeys(t.Context(), &secgossipv1.ListKeysRequest{})
	wantCode(t, "no token", err, connect.CodeUnauthenticated)

	bare := a.trust.ClientTLS(func() (*tls.Certificate, error) { return &tls.Certificate{}, nil }, "web-1", now)
	_, token := a.as(t, "ops", "admin")
	client = NewClient(bare, a.addr, func() string { return token })
	defer client.Close()
	_, err = client.ListKeys(t.Context(), &secgossipv1.ListKeysRequest{})
	wantCode(t, "no certificate", err, connect.CodeUnavailable)
}

func TestEveryProcedureHasARule(t *testing.T) {
	rules := Rules()
	methods := secgossipv1.File_secgossip_v1_agent_proto.Services().Get(0).Methods()
	for i := range methods.Len() {
		procedure := "/" + string(methods.Get(i).Parent().FullName()) + "/" + string(methods.Get(i).Name())
		if len(rules[procedure].AnyOf) == 0 {
			t.Errorf("%s has no rule", procedure)
		}
		delete(rules, procedure)
	}
	for procedure := range rules {
		t.Errorf("a rule for %s, which does not exist", procedure)
	}
}

func TestTooLongARequestIsRefused(t *testing.T) {
	a := startAgent(t)
	client := a.client(t, "ops", "admin")
	_, err := client.FireEvent(t.Context(), &secgossipv1.FireEventRequest{Payload: make([]byte, largeRequest)})
	wantCode(t, "a few bytes more", err, connect.CodeResourceExhausted)
	if _, err := client.FireEvent(t.Context(), &secgossipv1.FireEventRequest{Payload: make([]byte, largeRequest-16)}); err != nil {
		t.Errorf("just below: %v", err)
	}
}

func TestACompressedRequestIsRefused(t *testing.T) {
	a := startAgent(t)
	config, token := a.as(t, "ops", "admin")
	config.NextProtos = []string{"h2"}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	ctx, call := connect.NewClientContext(t.Context())
	call.RequestHeader().Set("Authorization", "Bearer "+token)
	client := secgossipv1connect.NewAgentServiceClient(connect.NewClient(
		connecthttp.NewTransport(&http.Client{Transport: transport}, "https://"+a.addr, connecthttp.WithSendGzip())))
	_, err := client.FireEvent(ctx, &secgossipv1.FireEventRequest{Event: make([]byte, 1<<20)})
	wantCode(t, "a megabyte in a kilobyte", err, connect.CodeUnimplemented)
}

func TestAPanicIsAnErrorForOneCallerAndOneLogLine(t *testing.T) {
	a := startAgent(t)
	client := a.client(t, "ops", "admin")
	_, err := client.GetInfo(t.Context(), &secgossipv1.GetInfoRequest{})
	wantCode(t, "a panic", err, connect.CodeInternal)
	if strings.Contains(err.Error(), "bug") {
		t.Errorf("the caller learns what broke: %v", err)
	}
	if got := a.log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "a bug of ours") || !strings.Contains(got, "GetInfo") {
		t.Errorf("the log says %q", got)
	}
	if _, err := client.ListKeys(t.Context(), &secgossipv1.ListKeysRequest{}); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestAClientFollowsNoRedirect(t *testing.T) {
	a := newAgent()
	elsewhere := make(chan string, 1)
	a.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			elsewhere <- r.Header.Get("Authorization")
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	config, _ := a.as(t, "ops", "admin")
	client := NewClient(config, a.addr, func() string { return "sgt_AAAA" })
	defer client.Close()
	if _, err := client.ListKeys(t.Context(), &secgossipv1.ListKeysRequest{}); err == nil {
		t.Error("a redirect was taken for an answer")
	}
	select {
	case got := <-elsewhere:
		t.Errorf("the token went elsewhere: %q", got)
	default:
	}
}
