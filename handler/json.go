package handler

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
	"unicode/utf8"
)

// document is what a handler with InputJSON reads: one JSON object and a newline.
// docs/handlers.md describes it.
type document struct {
	Event     string           `json:"event"`
	Name      string           `json:"name,omitempty"`
	ID        string           `json:"id,omitempty"`
	LTime     uint64           `json:"ltime,omitempty"`
	Payload   []byte           `json:"payload,omitempty"` // base64
	Text      *string          `json:"text,omitempty"`    // the payload, if it is UTF-8
	Principal string           `json:"principal,omitempty"`
	Token     string           `json:"token,omitempty"`
	Origin    string           `json:"origin,omitempty"`
	Expires   *time.Time       `json:"expires,omitempty"`
	Deadline  *time.Time       `json:"deadline,omitempty"`
	Members   []documentMember `json:"members,omitempty"`
	Epoch     *documentEpoch   `json:"epoch,omitempty"`
	Self      documentSelf     `json:"self"`
}

type documentMember struct {
	Name    string            `json:"name"`
	Address string            `json:"address,omitempty"`
	Role    string            `json:"role,omitempty"`
	Tags    map[string]string `json:"tags"`
}

type documentEpoch struct {
	Number uint64 `json:"number"`
	Action string `json:"action"`
	Reason string `json:"reason,omitempty"`
	Keeper string `json:"keeper,omitempty"`
}

type documentSelf struct {
	Name string            `json:"name"`
	Tags map[string]string `json:"tags"`
}

// inputFor returns what a handler reads on standard input.
func inputFor(form Input, e Event) ([]byte, error) {
	if form == InputJSON {
		return jsonInput(e)
	}
	return standardInput(e), nil
}

// environmentFor returns the environment of a run. Threat C12: beside a JSON
// document it holds six variables, none of which anybody on the network has a say
// in.
func environmentFor(form Input, e Event, home string) ([]string, error) {
	if form != InputJSON {
		return environment(e, home)
	}
	if !e.Kind.known() {
		return nil, fmt.Errorf("an event of kind %q, which nobody knows", e.Kind)
	}
	return []string{
		"HOME=" + home,
		"LANG=C.UTF-8",
		"PATH=" + fixedPath,
		"SECGOSSIP_EVENT=" + string(e.Kind),
		"SERF_EVENT=" + string(e.Kind),
		"TMPDIR=" + home,
	}, nil
}

// jsonInput writes e as one line. Whatever reads it gets every text back as it
// was, or there is no run: encoding/json would put U+FFFD in the place of bytes
// that are not UTF-8.
func jsonInput(e Event) ([]byte, error) {
	d := document{
		Event: string(e.Kind), Name: e.Name, ID: e.EventID, LTime: e.LTime, Payload: e.Payload,
		Principal: e.Principal, Token: e.TokenID, Origin: e.Origin,
		Expires: timeOrNone(e.Expires), Deadline: timeOrNone(e.Deadline),
		Self: documentSelf{Name: e.SelfName, Tags: orEmpty(e.SelfTags)},
	}
	if len(e.Payload) > 0 && utf8.Valid(e.Payload) {
		text := string(e.Payload)
		d.Text = &text
	}
	for _, m := range e.Members {
		d.Members = append(d.Members, documentMember{Name: m.Name, Address: addressText(m.Addr), Role: m.Role, Tags: orEmpty(m.Tags)})
	}
	if e.Kind == KindEpoch {
		d.Epoch = &documentEpoch{e.Epoch.Number, e.Epoch.Action, e.Epoch.Reason, e.Epoch.Keeper}
	}
	if err := d.checkText(); err != nil {
		return nil, err
	}
	line, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	return append(line, '\n'), nil
}

func (d *document) checkText() error {
	check := func(what, text string) error {
		if !utf8.ValidString(text) {
			return fmt.Errorf("%s %q is not UTF-8 and cannot be put into JSON", what, text)
		}
		return nil
	}
	texts := [][2]string{
		{"event name", d.Name}, {"event id", d.ID}, {"principal", d.Principal}, {"token id", d.Token}, {"origin", d.Origin},
		{"node name", d.Self.Name},
	}
	if d.Epoch != nil {
		texts = append(texts, [2]string{"reason", d.Epoch.Reason}, [2]string{"keeper", d.Epoch.Keeper})
	}
	for name, value := range d.Self.Tags {
		texts = append(texts, [2]string{"tag name", name}, [2]string{"tag value", value})
	}
	for _, m := range d.Members {
		texts = append(texts, [2]string{"member name", m.Name}, [2]string{"address", m.Address}, [2]string{"role", m.Role})
		for name, value := range m.Tags {
			texts = append(texts, [2]string{"tag name", name}, [2]string{"tag value", value})
		}
	}
	for _, t := range texts {
		if err := check(t[0], t[1]); err != nil {
			return err
		}
	}
	return nil
}

func timeOrNone(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func orEmpty(tags map[string]string) map[string]string {
	if tags == nil {
		return map[string]string{}
	}
	return tags
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
