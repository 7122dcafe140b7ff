package wire

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/secgossip/secgossip/internal/cose"
)

func TestStatementVerifiesForItsKeyAndClusterOnly(t *testing.T) {
	s, err := ParseStatement(mustStatement(t, testStatement()))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s.Statement, testStatement()) {
		t.Errorf("got %+v, want %+v", s.Statement, testStatement())
	}
	if err := s.Verify(public(testKey(1)), testCluster); err != nil {
		t.Errorf("Verify: %v", err)
	}
	if err := s.Verify(public(testKey(2)), testCluster); !errors.Is(err, cose.ErrSignature) {
		t.Errorf("another key: got %v, want ErrSignature", err)
	}
	if err := s.Verify(public(testKey(1)), otherCluster); !errors.Is(err, cose.ErrSignature) {
		t.Errorf("another cluster: got %v, want ErrSignature", err)
	}
}

func TestEveryFlippedBitOfAStatementIsRefused(t *testing.T) {
	raw := mustStatement(t, testStatement())
	for bit := range len(raw) * 8 {
		s, err := ParseStatement(flipped(raw, bit))
		if err == nil && s.Verify(public(testKey(1)), testCluster) == nil {
			t.Errorf("bit %d flipped: accepted", bit)
		}
	}
}

func TestFirstEpochHasNoPrevious(t *testing.T) {
	s := testStatement()
	s.Number, s.Previous = 1, [32]byte{}
	if _, err := ParseStatement(mustStatement(t, s)); err != nil {
		t.Errorf("the first epoch: %v", err)
	}
}

// The same through both doors: what is not signed is not parsed either, though a
// keeper signed it.
func TestImpossibleStatementIsRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Statement)
	}{
		{"no action", func(s *Statement) { s.Action = 0 }},
		{"unknown action", func(s *Statement) { s.Action = 4 }},
		{"number zero", func(s *Statement) { s.Number, s.Previous = 0, [32]byte{} }},
		{"a first epoch with a previous one", func(s *Statement) { s.Number = 1 }},
		{"a later epoch without a previous one", func(s *Statement) { s.Previous = [32]byte{} }},
		{"no commitment", func(s *Statement) { s.Commitment = [32]byte{} }},
		{"no keeper", func(s *Statement) { s.Keeper = "" }},
		{"long keeper", func(s *Statement) { s.Keeper = strings.Repeat("k", MaxName+1) }},
		{"no time", func(s *Statement) { s.Issued = time.Unix(0, 0) }},
		{"a time after the year 9999", func(s *Statement) { s.Issued = time.Unix(maxUnixSeconds+1, 0) }},
		{"a time before 1970, or that overflows", func(s *Statement) { s.Issued = time.Unix(-1, 0) }},
		{"no reason", func(s *Statement) { s.Reason = "" }},
		{"long reason", func(s *Statement) { s.Reason = strings.Repeat("r", MaxReason+1) }},
	} {
		s := testStatement()
		test.change(&s)
		if _, err := SignStatement(testKey(1), testCluster, s); err == nil {
			t.Errorf("%s: signed", test.name)
		}
		payload := must(t)(cose.Marshal(statementBody{
			uint8(s.Action), s.Number, s.Previous, s.Commitment, s.Keeper, uint64(s.Issued.Unix()), s.Reason, nil, nil,
		}))
		raw := must(t)(cose.Sign(testKey(1), cose.Context(epochLabel, testCluster), payload))
		if _, err := ParseStatement(raw); err == nil {
			t.Errorf("%s: parsed", test.name)
		}
	}
}

func TestActionsHaveSerfsNames(t *testing.T) {
	for action, want := range map[Action]string{
		ActionInstall: "install", ActionUse: "use", ActionRemove: "remove", 9: "action 9",
	} {
		if got := action.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
