package bus

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestTheLastWordOnADocumentIsWrittenAlone(t *testing.T) {
	var mu sync.Mutex
	var did []string
	round := func() []string { // what was done since the last one, in any order
		mu.Lock()
		defer mu.Unlock()
		done := did
		did = nil
		slices.Sort(done)
		return done
	}
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		did = append(did, what)
	}
	b := newBehind(func(_ Store, key string, doc any) error { note(fmt.Sprint(key, "=", doc)); return nil },
		func(_ Store, key string) error { note(key + " struck"); return nil }, func(string, error) {})
	check := func(want ...string) {
		t.Helper()
		if got := round(); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	b.want(Store{}, "short", 1)
	b.want(Store{}, "long", 1)
	b.want(Store{}, "long", 2)
	b.want(Store{}, "short", nil)
	b.want(Store{}, "earlier", nil) // of another run
	time.Sleep(3 * linger)
	check("earlier struck", "long=2")
	b.want(Store{}, "long", 3)
	time.Sleep(3 * linger)
	check("long=3")
	b.want(Store{}, "long", 4)
	b.want(Store{}, "long", nil)
	b.want(Store{}, "last", 1)
	b.close()
	check("last=1", "long struck")
	if len(b.wanted) > 0 || len(b.kept) != 1 || len(b.order) > 0 {
		t.Errorf("%d wanted, %d kept, %d in order", len(b.wanted), len(b.kept), len(b.order))
	}
}

func TestAStoreThatIsSlowHoldsUpNoWish(t *testing.T) {
	const many = 5 * together
	var mu sync.Mutex
	written, atOnce, most := map[string]any{}, 0, 0
	b := newBehind(func(_ Store, key string, doc any) error {
		mu.Lock()
		atOnce++
		most = max(most, atOnce)
		mu.Unlock()
		time.Sleep(5 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		atOnce--
		written[key] = doc
		return nil
	}, nil, func(string, error) {})
	for n := range many {
		b.want(Store{}, fmt.Sprint(n), n)
	}
	b.close()
	if len(written) != many || most < 2 || most > together {
		t.Errorf("%d of %d were written, %d at once", len(written), many, most)
	}
}
