package bus

import (
	"sync"
	"time"
)

// linger is how long a document waits to be written: what is struck meanwhile, a
// short call's say, is never written at all.
const linger = 100 * time.Millisecond

// together is how many writes are under way at once, and pause what lies between two
// rounds of them: what is written together wakes its writers and the store once.
const (
	together = 64
	pause    = 20 * time.Millisecond
)

// behind writes documents that no call waits for, the last word on each alone. It
// holds no more than there are documents.
type behind struct {
	write func(Store, string, any) error
	erase func(Store, string) error
	fail  func(key string, err error)
	wake  chan struct{}
	done  chan struct{}

	mu     sync.Mutex // guards all below
	wanted map[place]*intent
	order  []place // oldest first; some are of intents that are gone
	kept   map[place]struct{}
	closed bool
}

type place struct {
	in  Store
	key string
}

// intent is what is to become of a document.
type intent struct {
	doc   any // nil: it is struck
	since time.Time
}

func newBehind(write func(Store, string, any) error, erase func(Store, string) error, fail func(string, error)) *behind {
	b := &behind{write: write, erase: erase, fail: fail, wake: make(chan struct{}, 1), done: make(chan struct{}), wanted: map[place]*intent{}, kept: map[place]struct{}{}}
	go b.run() // ends with close
	return b
}

// want notes what is to become of a document. doc must not change any more.
func (b *behind) want(in Store, key string, doc any) {
	p := place{in, key}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := b.wanted[p]
	_, kept := b.kept[p]
	switch {
	case i == nil:
		b.wanted[p] = &intent{doc, time.Now()}
		b.order = append(b.order, p)
	case doc == nil && !kept && i.doc != nil: // it was never written
		delete(b.wanted, p)
	default:
		i.doc = doc
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// wish is an intent whose time has come.
type wish struct {
	place
	doc any
}

// due takes the intents whose time has come, oldest first; wait is until the next
// one's is, 0: there is none.
func (b *behind) due() (wishes []wish, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.order) > 0 && len(wishes) < together {
		p := b.order[0]
		i := b.wanted[p]
		if i != nil {
			if wait = linger - time.Since(i.since); wait > 0 && !b.closed {
				return wishes, wait
			}
		}
		b.order = b.order[1:]
		if i == nil {
			continue
		}
		delete(b.wanted, p)
		if i.doc == nil {
			delete(b.kept, p)
		} else {
			b.kept[p] = struct{}{}
		}
		wishes = append(wishes, wish{p, i.doc})
	}
	return wishes, 0
}

func (b *behind) run() {
	defer close(b.done)
	for {
		wishes, wait := b.due()
		var wg sync.WaitGroup
		for _, w := range wishes {
			wg.Go(func() { b.fulfil(w) })
		}
		wg.Wait()
		b.mu.Lock()
		over := b.closed && len(b.order) == 0
		b.mu.Unlock()
		switch {
		case over:
			return
		case len(wishes) == together: // more may be due
		case len(wishes) > 0:
			time.Sleep(pause)
		case wait > 0:
			time.Sleep(wait)
		default:
			<-b.wake
		}
	}
}

func (b *behind) fulfil(w wish) {
	var err error
	if w.doc == nil {
		err = b.erase(w.in, w.key)
	} else {
		err = b.write(w.in, w.key, w.doc)
	}
	if err != nil {
		b.fail(w.key, err)
	}
}

// close writes what waits and ends.
func (b *behind) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	<-b.done
}
