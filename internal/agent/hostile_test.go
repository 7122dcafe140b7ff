package agent

import (
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/secgossip/secgossip/internal/hostile"
	"github.com/secgossip/secgossip/pki"
	"github.com/secgossip/secgossip/rpcauth"
	"github.com/secgossip/secgossip/secgossip"
)

// Threat C12: the first that reads names and tags refuses what is none.
func TestHostileNamesAndTagsAreRefusedWhereTheyAreRead(t *testing.T) {
	name := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	accepted := 0
	for _, text := range hostile.Texts(6, 2500, "/canary") {
		if err := rpcauth.CheckEventName(text); err == nil && !name.MatchString(text) {
			t.Errorf("%q is the name of an event", text)
		}
		if _, err := pki.ParseName(text); err == nil && !name.MatchString(text) {
			t.Errorf("%q is the name of a node or client", text)
		}
		if secgossip.CheckTags(map[string]string{"x": text}) != nil {
			continue
		}
		accepted++
		if strings.ContainsFunc(text, unicode.IsControl) {
			t.Errorf("%q is a tag", text)
		}
	}
	if accepted == 0 {
		t.Error("no tag was accepted: this test does not look at anything")
	}
}
