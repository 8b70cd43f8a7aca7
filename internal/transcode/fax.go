package transcode

import "math"

// answerTone listens for a fax machine's or a modem's answer: 2100 Hz for almost
// half a second (ITU-T V.25). From then on a path carries data: what makes
// speech pleasant would tear it.
type answerTone struct {
	coefficient, s1, s2, energy float64
	size, n, hits               int
	heard                       bool
}

const (
	answerHz    = 2100
	answerBlock = 40  // ms
	answerHits  = 10  // blocks; one that misses takes two back: V.25's tone turns its phase now and then
	answerShare = 0.8 // of a block's energy
	answerLevel = 300 // of 16-bit samples, effective: what is fainter is no answer
)

func newAnswerTone(rate int) answerTone {
	return answerTone{coefficient: 2 * math.Cos(2*math.Pi*answerHz/float64(rate)), size: rate * answerBlock / 1000}
}

func (a *answerTone) hear(pcm []int16) {
	if a.heard {
		return
	}
	for _, s := range pcm {
		x := float64(s)
		a.energy += x * x
		a.s1, a.s2 = x+a.coefficient*a.s1-a.s2, a.s1
		if a.n++; a.n == a.size {
			n := float64(a.size)
			tone := 2 * (a.s1*a.s1 + a.s2*a.s2 - a.coefficient*a.s1*a.s2) / n
			if a.energy > answerLevel*answerLevel*n && tone > answerShare*a.energy {
				a.hits++
			} else {
				a.hits = max(a.hits-2, 0)
			}
			a.heard = a.hits >= answerHits
			a.s1, a.s2, a.energy, a.n = 0, 0, 0, 0
		}
	}
}
