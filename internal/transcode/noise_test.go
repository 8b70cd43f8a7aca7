package transcode

import (
	"math"
	"testing"
)

func TestNoiseHasTheLevelAndTheColourThatWereDescribed(t *testing.T) {
	for _, payload := range [][]byte{{30}, {60}, {40, 220}, {40, 30}, {45, 200, 90, 140}} {
		n := &noise{state: 7}
		n.describe(payload)
		pcm := make([]int16, 80000)
		n.fill(pcm)
		if got := loudness(pcm); math.Abs(float64(got)-float64(payload[0])) > 1 {
			t.Errorf("%v sounds %d dB below the overload point", payload, got)
		}
		var same, all float64
		for i := 1; i < len(pcm); i++ {
			same += float64(pcm[i]) * float64(pcm[i-1])
			all += float64(pcm[i]) * float64(pcm[i])
		}
		// The first reflection coefficient is minus the correlation of neighbours.
		want := 0.0
		if len(payload) > 1 {
			want = -258 * (float64(payload[1]) - 127) / 32768
		}
		if got := same / all; math.Abs(got-want) > 0.03 {
			t.Errorf("%v: neighbours correlate by %.2f, not %.2f", payload, got, want)
		}
	}
}

func TestNoiseTakesAnything(t *testing.T) {
	n := &noise{state: 1}
	pcm := make([]int16, 800)
	for _, c := range []byte{0, 127, 255} {
		payload := make([]byte, 100)
		for i := range payload {
			payload[i] = c
		}
		n.describe(payload)
		n.fill(pcm)
	}
	tr, err := New(pcmaCodec.Format, pcmuCodec.Format, 0)
	if err != nil {
		t.Fatal(err)
	}
	if tr.Calm(nil) == nil {
		t.Error("an empty description is taken")
	}
}
