package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	secgossipv1 "github.com/secgossip/secgossip/api/secgossip/v1"
	"github.com/secgossip/secgossip/internal/reply"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
)

// queryView is what query --json shows.
type queryView struct {
	QueryID   string            `json:"query_id"`
	Acks      []string          `json:"acks"`
	Responses map[string]string `json:"responses"`
	Binary    map[string][]byte `json:"responses_base64,omitempty"` // those that are no UTF-8
	Missing   []string          `json:"missing"`
}

func newQueryCmd(e *env) *cobra.Command {
	var req rpcauth.QueryRequest
	var tags []string
	var noAck bool
	cmd := &cobra.Command{
		Use:   "query NAME [PAYLOAD]",
		Short: "Ask every host and show the answers",
		Long: `query signs a query with your key and your token and hands it to the agent. Every
host checks signature and token itself before it runs a handler for it, and signs
what it answers. PAYLOAD - reads the payload from stdin.

It ends when every host that is alive and meant has answered, or has said that it
will not, and at the latest when --timeout is over. Exit code 5 means that some
hosts stayed silent.`,
		Example: "  secgossip query --tag role=web.* load 1m",
		Args:    usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Payload, err = e.payload(args[1:], rpcauth.MaxQueryPayload); err != nil {
				return err
			}
			if req.Tags, err = tagFilters(tags); err != nil {
				return err
			}
			req.Name, req.Ack = args[0], !noAck
			if cmd.Flags().Changed("timeout") && req.Timeout == 0 {
				return fmt.Errorf("%w: --timeout 0s: %v to %v are allowed", errUsage, rpcauth.MinQueryTimeout, rpcauth.MaxQueryTimeout)
			}
			return e.query(cmd.Context(), &req, noAck)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&req.Nodes, "node", nil, "only this node; repeat for more")
	flags.StringArrayVar(&tags, "tag", nil, "`NAME=EXPRESSION`: only nodes whose tag matches; repeat for more")
	flags.DurationVar(&req.Timeout, "timeout", 0, "how long to wait for replies (default by the size of the cluster, as in Serf)")
	flags.BoolVar(&noAck, "no-ack", false, "hosts do not say that the query has arrived")
	flags.IntVar(&req.Relay, "relay-factor", 0, "through how many other hosts replies go as well, 0 to 255")
	return cmd
}

// query asks and shows what comes, as it comes.
func (e *env) query(ctx context.Context, req *rpcauth.QueryRequest, noAck bool) error {
	view := queryView{Acks: []string{}, Responses: map[string]string{}, Missing: []string{}}
	say := func(format string, args ...any) {
		if !e.json {
			fmt.Fprintf(e.stdout, format+"\n", args...)
		}
	}
	missing, err := e.ask(ctx, req, asking{
		began: func(id string, _ *secgossipv1.PrepareQueryResponse) {
			view.QueryID = id
			say("Query '%s' dispatched", req.Name)
		},
		replied: func(r reply.Reply) {
			switch r.Kind {
			case reply.Ack:
				view.Acks = append(view.Acks, r.Node)
				say("Ack from '%s'", safe(r.Node))
			case reply.Answer:
				if utf8.Valid(r.Payload) {
					view.Responses[r.Node] = string(r.Payload)
				} else {
					if view.Binary == nil {
						view.Binary = make(map[string][]byte)
					}
					view.Binary[r.Node] = r.Payload
				}
				say("Response from '%s': %s", safe(r.Node), safeLines(strings.TrimSuffix(string(r.Payload), "\n")))
			}
		},
	})
	if err != nil {
		return err
	}
	view.Missing = append(view.Missing, missing...)
	if e.json {
		if err := e.print(view, nil); err != nil {
			return err
		}
	}
	if !noAck {
		say("Total Acks: %d", len(view.Acks))
	}
	say("Total Responses: %d", len(view.Responses)+len(view.Binary))
	return silent(missing, "`secgossip members` shows how they are; a longer --timeout, or --relay-factor, may reach them")
}

// asking hears of what happens to a query.
type asking struct {
	began   func(id string, about *secgossipv1.PrepareQueryResponse)
	replied func(reply.Reply)
}

// ask signs a query, hands it to the agent and checks every reply: not the agent is
// believed, but the node that signed. It returns who said nothing.
func (e *env) ask(ctx context.Context, req *rpcauth.QueryRequest, to asking) (missing []string, err error) {
	if err := req.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	s, err := e.connect()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	missing, err = s.ask(ctx, req, to, e.warn)
	return missing, s.explain(err)
}

// warn tells the operator of what goes on.
func (e *env) warn(text string) { fmt.Fprintln(e.stderr, "secgossip: "+text) }

func (s *session) ask(ctx context.Context, req *rpcauth.QueryRequest, to asking, warn func(string)) ([]string, error) {
	now := time.Now()
	// What is wrong with the token would look like a wrong query.
	if err := s.operator.CheckToken(now); err != nil {
		return nil, err
	}
	token, err := rpcauth.ParseTokenText(s.operator.Token)
	if err != nil {
		return nil, err
	}
	short, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	about, err := s.PrepareQuery(short, new(secgossipv1.PrepareQueryRequest))
	if err != nil {
		return nil, err
	}
	req.Cluster, req.Origin, req.LTime = s.operator.Trust.Cluster(), pki.Name(about.GetNode()), rpcauth.LamportTime(now, about.GetLtime())
	if req.Timeout == 0 {
		req.Timeout = min(max(time.Duration(about.GetTimeoutMs())*time.Millisecond, rpcauth.MinQueryTimeout), rpcauth.MaxQueryTimeout)
	}
	raw, id, err := rpcauth.SignQuery(s.operator.Key, token, *req, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	ctx, cancel = context.WithTimeout(ctx, req.Timeout+s.timeout)
	defer cancel()
	stream, err := s.AskQuery(ctx, &secgossipv1.AskQueryRequest{Query: raw})
	if err != nil {
		return nil, err
	}
	var doubtful []string
	for {
		batch, err := stream.Receive()
		if err != nil {
			return nil, s.streamEnd(err)
		}
		if batch.GetStart() != nil { // it was taken
			to.began(id.String(), about)
		}
		for _, issuer := range batch.GetStart().GetIssuers() {
			// One that is not of this cluster signs nothing that is believed.
			_, _ = s.operator.Trust.AddIssuer(issuer, time.Now())
		}
		for _, said := range batch.GetReplies() {
			r, err := s.checkReply(said, id)
			if err != nil {
				warn(fmt.Sprintf("a reply said to be of node %s is not believed: %v", safe(said.GetNode()), err))
				doubtful = append(doubtful, said.GetNode())
				continue
			}
			to.replied(r)
		}
		if summary := batch.GetSummary(); summary != nil {
			missing := append(doubtful, summary.GetMissing()...)
			slices.Sort(missing)
			return slices.Compact(missing), nil
		}
	}
}

// checkReply reads a reply that the node itself signed, to this query.
func (s *session) checkReply(said *secgossipv1.QueryReply, id rpcauth.QueryID) (reply.Reply, error) {
	credential, err := s.operator.Trust.VerifyCredential(said.GetCredential(), time.Now())
	if err != nil {
		return reply.Reply{}, err
	}
	signed, err := reply.Parse(said.GetSigned())
	if err != nil {
		return reply.Reply{}, err
	}
	if err := signed.Verify(credential.SigningKey, s.operator.Trust.Cluster()); err != nil {
		return reply.Reply{}, err
	}
	if credential.Kind != pki.KindNode || string(credential.Name) != signed.Node || signed.Query != id {
		return reply.Reply{}, errors.New("it is another node's, or to another query")
	}
	return signed.Reply, nil
}

func newRespondCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "respond ID [PAYLOAD]",
		Short: "Answer a query in the name of this host",
		Long: `respond answers a query that stream has shown, in the name of the agent's host. The
first answer of a host counts. PAYLOAD - reads the answer from stdin, up to 1 MiB.`,
		Example: "  secgossip respond 6e1f0a2b4c5d6e7f8091a2b3c4d5e6f7 0.42",
		Args:    usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if raw, err := hex.DecodeString(args[0]); err != nil || len(raw) != len(rpcauth.QueryID{}) {
				return fmt.Errorf("%w: query id %.40q: want 32 hexadecimal digits, as stream shows them", errUsage, args[0])
			}
			var payload []byte
			if len(args) == 2 {
				payload = []byte(args[1])
				if args[1] == "-" {
					var err error
					if payload, err = e.stdinUpTo(reply.MaxPayload); err != nil {
						return err
					}
				}
			}
			return e.call(cmd.Context(), func(ctx context.Context, s *session) error {
				if _, err := s.RespondQuery(ctx, &secgossipv1.RespondQueryRequest{QueryId: args[0], Payload: payload}); err != nil {
					return err
				}
				return e.print(struct {
					QueryID string `json:"query_id"`
				}{args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Response sent") })
			})
		},
	}
}
