package call

import (
	"testing"
	"time"

	"github.com/sipbridge/sipbridge/internal/policy"
)

func TestCallsThatCostAreCounted(t *testing.T) {
	p, err := policy.Compile(policy.Config{Classes: map[string]policy.Class{
		"abroad":  {Numbers: `^00`, From: []string{"pbx"}, MaxCalls: 2, PerHour: 3},
		"premium": {Numbers: `^0060`, From: []string{"pbx"}, Transfer: true},
	}}, policy.Names{Trunks: []string{"pbx"}})
	if err != nil {
		t.Fatal(err)
	}
	tl := &tolls{calls: map[string]int{}, begun: map[string][]time.Time{}, refused: map[Toll]uint64{}}
	now := time.Now()
	var held []func()
	for _, c := range []struct {
		what, number, source string
		transfer             bool
		after                time.Duration
		release              bool
		refused              Toll
	}{
		{what: "at home", number: "1234", source: "browser"},
		{what: "who may not", number: "00351", source: "browser", refused: Toll{"abroad", "source"}},
		{what: "by transfer", number: "00351", source: "pbx", transfer: true, refused: Toll{"abroad", "transfer"}},
		{what: "the first", number: "00351", source: "pbx"},
		{what: "the second, of two classes", number: "0060", source: "pbx"},
		{what: "one too many at once", number: "00351", source: "pbx", refused: Toll{"abroad", "calls"}},
		{what: "the third in the hour", number: "00351", source: "pbx", release: true},
		{what: "one too many in the hour", number: "00351", source: "pbx", release: true, refused: Toll{"abroad", "hour"}},
		{what: "an hour later", number: "00351", source: "pbx", after: 61 * time.Minute, release: true},
	} {
		if c.release {
			for _, give := range held {
				give()
			}
			held = nil
		}
		now = now.Add(c.after)
		before := tl.refused[c.refused]
		give, err := tl.take(p.Limits(c.number), c.source, c.transfer, now)
		switch {
		case (err != nil) != (c.refused != Toll{}):
			t.Errorf("%s: %v", c.what, err)
		case err != nil && tl.refused[c.refused] != before+1:
			t.Errorf("%s: refused for %v", c.what, tl.refused)
		case err == nil:
			held = append(held, give)
		}
	}
}
