package main

import (
	"math"
	"slices"
	"testing"
	"time"
)

// frame is an RTP packet in an Ethernet frame, from one of two sockets.
func frame(flow byte) []byte {
	f := make([]byte, vnet+14+20+8+172)
	e := f[vnet:]
	e[12], e[13], e[14], e[23] = 8, 0, 0x45, 17
	e[34] = flow
	e[42] = 128
	return f
}

// losses are which of so many frames of a flow do not cross, with a flow beside it.
func losses(w *way, frames int) (out []bool) {
	for n := range frames {
		for flow := byte(1); flow <= 2; flow++ {
			before := w.counts.Lost
			w.take(frame(flow), time.Unix(int64(n), 0))
			if flow == 1 {
				out = append(out, w.counts.Lost > before)
			}
		}
	}
	return out
}

func TestLossIsAsOrderedAndTheSameForEachFlow(t *testing.T) {
	for _, burst := range []float64{1, 3} {
		w := newWay(-1)
		o := order{Loss: 0.15, Burst: burst, Seed: 5}
		w.obey(o)
		a := losses(w, 50000)
		var lost, begun int
		for n, l := range a {
			if l {
				lost++
				if n == 0 || !a[n-1] {
					begun++
				}
			}
		}
		if share := float64(lost) / 50000; math.Abs(share-0.15) > 0.01 {
			t.Errorf("bursts of %v: %.3f are lost, 0.15 ordered", burst, share)
		}
		// Independent losses come in runs, too: 1/(1-p) long.
		if mean := float64(lost) / float64(begun); math.Abs(mean-max(burst, 1/0.85)) > 0.1 {
			t.Errorf("bursts of %v: losses are %.2f long", burst, mean)
		}
		if was := w.obey(o); was.Lost != 2*lost {
			t.Errorf("two flows lost %d, one of them %d", was.Lost, lost)
		}
		if !slices.Equal(a, losses(w, 50000)) {
			t.Error("the same seed lost other packets")
		}
	}
}

func TestOnlySoundSuffers(t *testing.T) {
	w := newWay(-1)
	w.obey(order{Loss: 1, Seed: 1})
	report := frame(1)
	report[vnet+43] = 200 // RTCP
	stun := frame(1)
	stun[vnet+42] = 0
	for _, f := range [][]byte{report, stun, make([]byte, 20), make([]byte, vnet+60)} {
		w.take(f, time.Unix(0, 0))
	}
	if w.counts.Frames != 0 || len(w.waiting) != 4 {
		t.Errorf("%+v, %d cross", w.counts, len(w.waiting))
	}
}
