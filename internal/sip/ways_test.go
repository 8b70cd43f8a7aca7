package sip

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func TestWaysAreTriedByPriorityAndByWeight(t *testing.T) {
	tr := &trunk{name: "pbx", from: netip.MustParseAddr("10.0.0.9"), Trunk: Trunk{Address: "sip:10.0.0.3",
		Targets: []Alternative{{"sip:10.0.0.1", 1, 1}, {"sip:10.0.0.2", 0, 3}, {"sip:10.0.0.4;transport=tcp", 2, 0}}}}
	if err := tr.lay(context.Background(), names{}); err != nil {
		t.Fatal(err)
	}
	lot := rand.New(rand.NewPCG(1, 2))
	first := map[string]int{}
	const draws = 4000
	for range draws {
		var got []string
		for _, h := range order(tr.ways(), lot.IntN) {
			got = append(got, h.address)
		}
		first[got[0]]++
		if slices.Sort(got[:2]); !slices.Equal(got, []string{"sip:10.0.0.2", "sip:10.0.0.3", "sip:10.0.0.1", "sip:10.0.0.4;transport=tcp"}) {
			t.Fatalf("the order was %v", got)
		}
	}
	if share := float64(first["sip:10.0.0.2"]) / draws; share < 0.72 || share > 0.78 {
		t.Errorf("who weighs three of four came first in %.2f of the draws", share)
	}
}
