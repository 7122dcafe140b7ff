package rpcauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Rule is what a procedure asks for before its body is read.
type Rule struct {
	// AnyOf names verbs of which the token must have one. Of a verb with a glob
	// this is only the first sieve: when the procedure has read the name, it
	// asks Token.Require.
	AnyOf []Verb
	// Mutates puts every call that is let in on record, not refusals alone.
	Mutates bool
}

// Gate stands in front of every RPC. It decides from the connection and the
// headers alone; no byte of the body is read before the caller may call.
type Gate struct {
	config  GateConfig
	limiter *limiter
}

// GateConfig is what a gate needs. Only Refuse may be left out.
type GateConfig struct {
	Verifier *Verifier
	Rules    map[string]Rule // by procedure, the path "/package.Service/Method"
	Now      func() time.Time
	// Audit is called once for each refusal and once for each call that changes
	// something, before it runs. Callers turned away unread have one record a
	// second between them, which counts the others.
	Audit func(AuditRecord)
	// Refuse writes a refusal in the protocol that the caller speaks. Without it
	// every refusal is Connect's unary one: a status and a JSON object.
	Refuse func(w http.ResponseWriter, r *http.Request, verdict Verdict, message string)
}

// NewGate returns a gate. The error names everything that config lacks.
func NewGate(config GateConfig) (*Gate, error) {
	var missing []error
	if config.Verifier == nil {
		missing = append(missing, errors.New("a gate needs a Verifier"))
	}
	if config.Now == nil {
		missing = append(missing, errors.New("a gate needs a clock"))
	}
	if config.Audit == nil {
		missing = append(missing, errors.New("a gate needs somebody to tell of its refusals"))
	}
	for procedure, rule := range config.Rules {
		if len(rule.AnyOf) == 0 {
			missing = append(missing, fmt.Errorf("the rule for %q names no verb", procedure))
		}
	}
	if len(missing) > 0 {
		return nil, errors.Join(missing...)
	}
	if config.Refuse == nil {
		config.Refuse = refuseUnary
	}
	return &Gate{config: config, limiter: newLimiter()}, nil
}

// Wrap returns a handler that lets through to next those who may call, with
// their Principal in the request's context.
func (g *Gate) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := g.decide(r)
		if d.onRecord {
			g.config.Audit(d.record)
		}
		if d.record.Verdict != Allowed {
			g.config.Refuse(w, r, d.record.Verdict, d.message)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, d.principal)))
	})
}

type decision struct {
	principal *Principal
	message   string // what a refused caller is told
	record    AuditRecord
	onRecord  bool
}

func (g *Gate) decide(r *http.Request) decision {
	now := g.config.Now()
	d := decision{record: AuditRecord{Time: now, Source: r.RemoteAddr}, onRecord: true}
	refuse := func(verdict Verdict, message string, reason error) {
		d.record.Verdict, d.message, d.record.Reason = verdict, message, reason.Error()
	}
	// A path that is written with escapes is none of ours: two spellings of a
	// procedure could mean one to the gate and another behind it.
	rule, exists := g.config.Rules[r.URL.Path]
	exists = exists && r.URL.RawPath == ""
	if exists {
		d.record.What = r.URL.Path
	}

	var err error
	heard := g.limiter.attempt(now, sourceOf(r.RemoteAddr), presentedKey(r), func() bool {
		d.principal, d.record.Who, err = g.authenticate(r, now)
		return err == nil
	})
	switch {
	case !heard:
		refuse(ResourceExhausted, "too many failed attempts from this address; wait a little", errTooMany)
		d.record.Skipped, d.onRecord = g.limiter.note(now)
		return d
	case err != nil:
		refuse(Unauthenticated, string(Unauthenticated), err)
		return d
	}
	token := d.principal.Token
	d.record.Token = token.IDText()
	switch {
	case !exists:
		refuse(Unimplemented, "no such procedure", errNoProcedure)
	case !slices.ContainsFunc(rule.AnyOf, func(v Verb) bool { return allowedVerb(token.Grants, v) }):
		err := &GrantError{Subject: token.Subject, Need: needed(rule.AnyOf), Have: token.Grants}
		refuse(PermissionDenied, err.Error(), err)
	default:
		d.record.Verdict, d.onRecord = Allowed, rule.Mutates
	}
	return d
}

var (
	errTooMany     = errors.New("too many failed attempts")
	errNoProcedure = errors.New("no such procedure")
)

// needed writes verbs as grants for a message: with GLOB where there is one.
func needed(verbs []Verb) []Grant {
	var out []Grant
	for _, verb := range verbs {
		if slices.Contains(globVerbs, verb) {
			verb += "GLOB"
		}
		out = append(out, Grant(verb))
	}
	return out
}

// refuseUnary writes Connect's unary error.
func refuseUnary(w http.ResponseWriter, _ *http.Request, verdict Verdict, message string) {
	status := http.StatusUnauthorized
	switch verdict {
	case PermissionDenied:
		status = http.StatusForbidden
	case ResourceExhausted:
		status = http.StatusTooManyRequests
	case Unimplemented:
		status = http.StatusNotImplemented
	}
	body, err := json.Marshal(struct {
		Code    Verdict `json:"code"`
		Message string  `json:"message"`
	}{verdict, message})
	if err != nil {
		panic("internal error: encoding a refusal: " + err.Error()) // two strings always encode
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body) // the caller may be gone; there is nobody else to tell
}
