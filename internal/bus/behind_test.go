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
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		did = append(did, what)
	}
	b := newBehind(func(_ Store, key string, doc any) error { note(fmt.Sprint(key, "=", doc)); return nil },
		func(_ Store, key string) error { note(key + " struck"); return nil }, func(string, error) {})
	wait := func() { time.Sleep(3 * linger) }
	b.want(Store{}, "short", 1)
	b.want(Store{}, "long", 1)
	b.want(Store{}, "long", 2)
	b.want(Store{}, "short", nil)
	b.want(Store{}, "earlier", nil) // of another run
	wait()
	b.want(Store{}, "long", 3)
	wait()
	b.want(Store{}, "long", 4)
	b.want(Store{}, "long", nil)
	b.want(Store{}, "last", 1)
	b.close()
	want := []string{"long=2", "earlier struck", "long=3", "long struck", "last=1"}
	if !slices.Equal(did, want) {
		t.Errorf("%v, want %v", did, want)
	}
	if len(b.wanted) > 0 || len(b.kept) != 1 || len(b.order) > 0 {
		t.Errorf("%d wanted, %d kept, %d in order", len(b.wanted), len(b.kept), len(b.order))
	}
}
