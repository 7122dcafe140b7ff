package secgossip

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
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

// tagsFile is a tagChanges in the state folder, as a kept file.
const tagsFile = "tags"

// maxTagsFile bounds it: every limit of tags, twice, and what CBOR adds.
const maxTagsFile = 2*memberlist.MetaMaxSize + maxTags*(maxTagName+8)

// tagChanges are what clients changed of the tags in the settings. They stand above
// them, over restarts and reloads, until a client changes them again.
type tagChanges struct {
	Set     map[string]string `cbor:"1,keyasint,omitempty"`
	Deleted []string          `cbor:"2,keyasint,omitempty"` // ascending
}

// over lays the changes over the tags of the settings.
func (c tagChanges) over(tags map[string]string) map[string]string {
	out := make(map[string]string)
	maps.Copy(out, tags)
	for _, name := range c.Deleted {
		delete(out, name)
	}
	maps.Copy(out, c.Set)
	return out
}

// and is c with further changes.
func (c tagChanges) and(set map[string]string, deleted []string) tagChanges {
	out := tagChanges{Set: c.over(nil)}
	gone := make(map[string]bool)
	for _, name := range append(slices.Clone(c.Deleted), deleted...) {
		gone[name] = true
	}
	for _, name := range deleted {
		delete(out.Set, name)
	}
	for name, value := range set {
		out.Set[name] = value
		delete(gone, name)
	}
	out.Deleted = slices.Sorted(maps.Keys(gone))
	return out
}

func (c tagChanges) check() error {
	if len(c.Deleted) > maxTags {
		return fmt.Errorf("%d tags of the settings are deleted: at most %d", len(c.Deleted), maxTags)
	}
	for _, name := range c.Deleted {
		if name == "" || len(name) > maxTagName {
			return fmt.Errorf("tag name %q: 1 to %d bytes", name, maxTagName)
		}
	}
	return CheckTags(c.Set)
}

// loadTags takes up the changes that were kept. Where together with the settings of
// today they are too much, they are dropped, and that is said.
func (n *Node) loadTags() error {
	var kept tagChanges
	if n.config.StateDir != "" {
		err := n.loadKept(filepath.Join(n.config.StateDir, tagsFile), maxTagsFile, func(body []byte) error {
			var read tagChanges
			err := cose.Unmarshal(body, &read)
			if err = errors.Join(err, read.check()); err == nil {
				kept = read
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	tags := kept.over(n.config.Tags)
	if err := CheckTags(tags); err != nil {
		n.logger.Warn("tags that were set by clients are dropped: with those of the settings they are too many", slog.Any("error", err))
		kept, tags = tagChanges{}, tagChanges{}.over(n.config.Tags)
	}
	n.tagging.Lock()
	defer n.tagging.Unlock()
	n.tagChanges = kept
	n.tags.Store(&tags)
	return nil
}

// ErrTags says that tags are outside their limits, and which.
var ErrTags = errors.New("tags refused")

// UpdateTags sets and deletes tags and tells the cluster. They are on disk before
// anybody hears of them. It returns what there is now. Errors: ErrTags.
func (n *Node) UpdateTags(set map[string]string, deleted []string) (map[string]string, error) {
	n.tagging.Lock()
	defer n.tagging.Unlock()
	for _, name := range deleted {
		if _, both := set[name]; both {
			return nil, fmt.Errorf("%w: tag %q is both set and deleted", ErrTags, name)
		}
	}
	changes := n.tagChanges.and(set, deleted)
	tags := changes.over(n.config.Tags)
	err := changes.check()
	if err == nil {
		err = CheckTags(tags) // of which those of the changes are a part
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTags, err)
	}
	if n.config.StateDir != "" {
		body, err := cose.Marshal(changes)
		if err == nil {
			err = writeKept(filepath.Join(n.config.StateDir, tagsFile), n.config.Trust.Cluster(), body)
		}
		if err != nil {
			return nil, fmt.Errorf("keeping tags: %w", err)
		}
	}
	n.tagChanges = changes
	n.tellTags(tags)
	return maps.Clone(tags), nil
}

// SetTags gives the node other tags of the settings, under those that clients set,
// and tells the cluster. When nobody heard it in time, which is no error, members
// learn it with the next exchange.
func (n *Node) SetTags(tags map[string]string) error {
	n.tagging.Lock()
	defer n.tagging.Unlock()
	all := n.tagChanges.over(tags)
	if err := errors.Join(CheckTags(tags), CheckTags(all)); err != nil {
		return err
	}
	n.config.Tags = maps.Clone(tags)
	n.tellTags(all)
	return nil
}

func (n *Node) tellTags(tags map[string]string) {
	n.tags.Store(&tags)
	if err := n.list.UpdateNode(tagsTimeout); err != nil {
		n.logger.Warn("nobody heard of the new tags yet", slog.Any("error", err))
	}
}

// Tags are the node's tags as it tells them.
func (n *Node) Tags() map[string]string { return maps.Clone(n.currentTags()) }

// tagsTimeout bounds the wait for somebody who takes new tags.
const tagsTimeout = 5 * time.Second

// currentTags are the tags the node tells now.
func (n *Node) currentTags() map[string]string {
	return *n.tags.Load()
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
