package media

import (
	"math/rand/v2"
	"testing"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// press sends a key as a telephone does: 100 ms, a packet every 20, the end three
// times (RFC 4733 §2.5.1).
func press(code uint8, seq *uint16, ts uint32, send func(*Packet)) {
	for n := 1; n <= 7; n++ {
		e := dtmf.Event{Code: code, Volume: 10, Duration: uint16(min(n, 5) * 160), End: n >= 5}
		var b [dtmf.EventSize]byte
		e.Put(b[:])
		p := packet(101, *seq, ts, b[:])
		p.Marker = n == 1
		*seq++
		send(p)
	}
}

func TestNoneOfTenThousandKeysIsLostDoubledOrInventedUnderLoss(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	lossy := func() bool { return r.Float64() < 0.05 }
	src, _, w, heard := pair(codec("PCMU"), codec("PCMU"), event8k(101))
	var far []dtmf.Digit
	end := newStream(nil, "srtp", func(d dtmf.Digit) { far = append(far, d) })
	end.settle(&Agreed{Send: codec("PCMU"), Receive: []sdp.Format{codec("PCMU"), event8k(126), event48k(110)}, Direction: sdp.SendRecv})
	var seq uint16
	want := make([]dtmf.Digit, 0, 10_000)
	for n := range cap(want) {
		code := uint8(r.UintN(16))
		d, _ := dtmf.FromCode(code)
		want = append(want, d)
		press(code, &seq, uint32(n)*1360, func(p *Packet) {
			if !lossy() {
				src.receive(p)
			}
		})
		for _, g := range w.got { // the second network
			if !lossy() {
				end.receive(packet(g.PayloadType, g.SequenceNumber, g.Timestamp, g.payload))
			}
		}
		w.got = w.got[:0]
	}
	for where, got := range map[string][]dtmf.Digit{"here": *heard, "at the far end": far} {
		if len(got) != len(want) {
			t.Fatalf("%d of %d keys were heard %s", len(got), len(want), where)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("key %d, heard %s, is another one", i, where)
			}
		}
	}
}
