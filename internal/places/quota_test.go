package places

import "testing"

func TestQuotaCountsByHolderAndInAll(t *testing.T) {
	q := NewQuota[string](3, 2)
	steps := []struct {
		take bool
		who  string
		want bool
	}{
		{true, "x", true}, {true, "x", true}, {true, "x", false},
		{true, "y", true}, {true, "z", false},
		{false, "x", true}, {true, "z", true}, {true, "x", false},
		{false, "y", true}, {false, "z", true}, {true, "x", true}, {true, "x", false},
	}
	for i, step := range steps {
		if !step.take {
			q.GiveBack(step.who)
		} else if got := q.Take(step.who); got != step.want {
			t.Fatalf("step %d: %s may have one more: %v, want %v", i, step.who, got, step.want)
		}
	}
	q.GiveBack("x")
	q.GiveBack("x")
	if q.InUse() != 0 || len(q.by) != 0 {
		t.Errorf("%d in use by %v when all is given back", q.InUse(), q.by)
	}
}
