package secgossip

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"

	"github.com/secgossip/secgossip/internal/cose"
)

// Limits of tags. All tags of a node, encoded, fit memberlist's 512-byte meta
// data; the counts keep a single tag from being absurd.
const (
	maxTags     = 32
	maxTagName  = 64
	maxTagValue = 255
)

// CheckTags reports every problem of a set of tags at once.
func CheckTags(tags map[string]string) error {
	var problems []error
	if len(tags) > maxTags {
		problems = append(problems, fmt.Errorf("%d tags: at most %d", len(tags), maxTags))
	}
	for name, value := range tags {
		switch {
		case name == "" || len(name) > maxTagName:
			problems = append(problems, fmt.Errorf("tag name %q: 1 to %d bytes", name, maxTagName))
		case len(value) > maxTagValue:
			problems = append(problems, fmt.Errorf("tag %q: value of %d bytes, at most %d", name, len(value), maxTagValue))
		case !printable(name) || !printable(value):
			problems = append(problems, fmt.Errorf("tag %q: not printable text", name))
		}
	}
	if len(problems) == 0 {
		if raw, err := cose.Marshal(tags); err != nil || len(raw) > memberlist.MetaMaxSize {
			problems = append(problems, fmt.Errorf("tags take %d bytes, at most %d in all", len(raw), memberlist.MetaMaxSize))
		}
	}
	return errors.Join(problems...)
}

// SetTags gives the node other tags and tells the cluster. When nobody heard it in
// time, which is no error, members learn it with the next exchange.
func (n *Node) SetTags(tags map[string]string) error {
	if err := CheckTags(tags); err != nil {
		return err
	}
	n.tags.Store(new(maps.Clone(tags)))
	if err := n.list.UpdateNode(tagsTimeout); err != nil {
		n.logger.Warn("nobody heard of the new tags yet", slog.Any("error", err))
	}
	return nil
}

// tagsTimeout bounds the wait for somebody who takes new tags.
const tagsTimeout = 5 * time.Second

// currentTags are the tags the node tells now.
func (n *Node) currentTags() map[string]string {
	if tags := n.tags.Load(); tags != nil {
		return *tags
	}
	return n.config.Tags
}

// encodeTags is a node's meta data: a deterministic CBOR map, nothing for none.
func encodeTags(tags map[string]string) []byte {
	if len(tags) == 0 {
		return nil
	}
	raw, err := cose.Marshal(tags)
	if err != nil {
		panic("internal error: encoding checked tags: " + err.Error())
	}
	return raw
}

func decodeTags(meta []byte) (map[string]string, error) {
	if len(meta) == 0 {
		return map[string]string{}, nil
	}
	var tags map[string]string
	if err := cose.Unmarshal(meta, &tags); err != nil {
		return nil, fmt.Errorf("tags: %w", err)
	}
	if len(tags) == 0 {
		return nil, errors.New("tags: not in their only allowed encoding") // none is no bytes
	}
	return tags, CheckTags(tags)
}

// printable accepts text without control characters: tags end up in terminals,
// logs and the environment of handlers.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return false
		}
	}
	return true
}
