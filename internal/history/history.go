// Package history keeps the last versions of a text, with who changed it and when.
package history

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sipbridge/sipbridge/internal/bus"
)

// Kept is how many versions are kept.
const Kept = 10

// Version is one of them.
type Version struct {
	Number int       `json:"version"`
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Text   string    `json:"text,omitempty"`
}

// Book keeps them on the bus.
type Book struct {
	Store bus.Store

	mu sync.Mutex // one change at a time
}

// ErrNone is returned where there is no such version, or no longer.
var ErrNone = errors.New("no such version")

// Versions are those that are kept, the oldest first.
func (b *Book) Versions() ([]Version, error) {
	keys, err := b.Store.Keys()
	if err != nil {
		return nil, err
	}
	var out []Version
	for _, k := range keys {
		var v Version
		if err := b.Store.Get(k, &v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, c Version) int { return a.Number - c.Number })
	return out, nil
}

// Version is the one of a number.
func (b *Book) Version(n int) (v Version, err error) {
	err = b.Store.Get(key(n), &v)
	if errors.Is(err, bus.ErrNotFound) {
		err = ErrNone
	}
	return v, err
}

func key(n int) string { return "v" + strconv.Itoa(n) }

// Add keeps a text as the newest version and forgets the oldest; a text that is the
// newest already is not kept twice.
func (b *Book) Add(text, by string, at time.Time) (Version, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all, err := b.Versions()
	if err != nil {
		return Version{}, err
	}
	n := 0
	if len(all) > 0 {
		last := all[len(all)-1]
		if last.Text == text {
			return last, nil
		}
		n = last.Number
	}
	v := Version{Number: n + 1, At: at.UTC().Truncate(time.Second), By: by, Text: text}
	if err := b.Store.Put(key(v.Number), v); err != nil {
		return Version{}, err
	}
	for len(all) >= Kept {
		if err := b.Store.Delete(key(all[0].Number)); err != nil {
			return v, err
		}
		all = all[1:]
	}
	return v, nil
}

// around is how many lines are shown around a difference.
const around = 3

// Diff shows what differs between two texts, line by line: "-" is only in the first,
// "+" only in the second. "" if nothing does.
func Diff(a, b string) string {
	x, y := lines(a), lines(b)
	// The longest common subsequence of what is left and right of each place.
	common := make([][]int, len(x)+1)
	for i := range common {
		common[i] = make([]int, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []string
	var changed []int
	for i, j := 0, 0; i < len(x) || j < len(y); {
		switch {
		case i < len(x) && j < len(y) && x[i] == y[j]:
			out = append(out, " "+x[i])
			i, j = i+1, j+1
			continue
		case i < len(x) && (j == len(y) || common[i+1][j] >= common[i][j+1]):
			out = append(out, "-"+x[i])
			i++
		default:
			out = append(out, "+"+y[j])
			j++
		}
		changed = append(changed, len(out)-1)
	}
	var b2 strings.Builder
	shown := -1
	for n, l := range out {
		if !slices.ContainsFunc(changed, func(c int) bool { return n >= c-around && n <= c+around }) {
			continue
		}
		if n != shown+1 {
			fmt.Fprintln(&b2, "...")
		}
		fmt.Fprintln(&b2, l)
		shown = n
	}
	return b2.String()
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}
