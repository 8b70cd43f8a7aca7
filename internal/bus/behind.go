package bus

import (
	"sync"
	"time"
)

// linger is how long a document waits to be written: what is struck meanwhile, a
// short call's say, is never written at all.
const linger = 100 * time.Millisecond

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

// next takes the oldest intent whose time has come; wait is until the next one's is,
// 0: there is none.
func (b *behind) next() (p place, i *intent, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.order) > 0 {
		p = b.order[0]
		i = b.wanted[p]
		if i != nil {
			if wait = linger - time.Since(i.since); wait > 0 && !b.closed {
				return p, nil, wait
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
		return p, i, 0
	}
	return p, nil, 0
}

func (b *behind) run() {
	defer close(b.done)
	for {
		p, i, wait := b.next()
		switch {
		case i != nil && i.doc == nil:
			if err := b.erase(p.in, p.key); err != nil {
				b.fail(p.key, err)
			}
			continue
		case i != nil:
			if err := b.write(p.in, p.key, i.doc); err != nil {
				b.fail(p.key, err)
			}
			continue
		}
		b.mu.Lock()
		over := b.closed
		b.mu.Unlock()
		switch {
		case over:
			return
		case wait > 0:
			time.Sleep(wait)
		default:
			<-b.wake
		}
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
