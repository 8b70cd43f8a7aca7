package sip

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

func TestWaysAreTriedByPriorityAndByWeight(t *testing.T) {
	tr := &trunk{name: "pbx"}
	for _, a := range []Alternative{{"sip:10.0.0.1", 1, 1}, {"sip:10.0.0.2", 0, 3}, {"sip:10.0.0.3", 0, 1}, {"sip:10.0.0.4;transport=tcp", 2, 0}} {
		if err := tr.lay(a, netip.MustParseAddr("10.0.0.9")); err != nil {
			t.Fatal(err)
		}
	}
	lot := rand.New(rand.NewPCG(1, 2))
	first := map[int]int{}
	const draws = 4000
	for range draws {
		order := tr.order(lot.IntN)
		first[order[0]]++
		if len(order) != 4 || order[0]+order[1] != 3 || order[2] != 0 || order[3] != 3 {
			t.Fatalf("the order was %v", order)
		}
	}
	if share := float64(first[1]) / draws; share < 0.72 || share > 0.78 {
		t.Errorf("who weighs three of four came first in %.2f of the draws", share)
	}
}
