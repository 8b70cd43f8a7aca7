package main

import "testing"

func TestThePaceOfTheCollector(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		what      string
		live      uint64
		allocated [memory]uint64
		gogc      int
	}{
		{"nothing to do", 4 * mb, [memory]uint64{}, 400},
		{"next to nothing alive", 1000, [memory]uint64{}, 800},
		{"few calls, many a second", 20 * mb, [memory]uint64{0, 60 * mb}, 600},
		{"a burst is remembered", 40 * mb, [memory]uint64{30 * mb, 0, 0, 0, 0}, 150},
		{"many live, and many more come", 100 * mb, [memory]uint64{mb, 40 * mb}, 195},
		{"many calls that last", 200 * mb, [memory]uint64{mb, mb, mb, mb, mb}, 100},
	} {
		if got := pace(c.live, c.allocated); got != c.gogc {
			t.Errorf("%s: GOGC %d, want %d", c.what, got, c.gogc)
		}
	}
}
