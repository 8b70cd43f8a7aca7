package media

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode"
	"github.com/sipbridge/sipbridge/internal/transcode/dtmf"
)

// toned is a stream of A-law that hears keys in its sound, without events.
func toned(pressed func(dtmf.Digit)) (*Stream, *wire) {
	s := newStream(nil, "rtp", nil)
	s.listenForTones(pressed)
	w := new(wire)
	var below transmitter = w
	s.below.Store(&below)
	s.settle(&Agreed{Send: codec("PCMA"), Receive: []sdp.Format{codec("PCMA")}, Direction: sdp.SendRecv})
	return s, w
}

func TestAKeyPressedInTheSoundIsHeardOnceAndMuted(t *testing.T) {
	from, wireFrom := toned(nil)
	if !from.Press('7', 100*time.Millisecond) {
		t.Fatal("no key was pressed")
	}
	var got []byte
	to, _ := toned(func(d dtmf.Digit) { got = append(got, byte(d)) })
	far, out := toned(nil)
	to.Forward(NewPath(to, far))
	for _, p := range wireFrom.got {
		pkt := packet(p.PayloadType, p.SequenceNumber, p.Timestamp, p.payload)
		to.receive(pkt)
	}
	if string(got) != "7" {
		t.Errorf("heard %q", got)
	}
	// What was heard further on is too short to be a key.
	d := dtmf.NewDetector()
	c, _ := transcode.Find(codec("PCMA"))
	dec, err := c.NewDecoder(8000)
	if err != nil {
		t.Fatal(err)
	}
	var pcm [transcode.MaxPayload]int16
	for _, p := range out.got {
		n, err := dec.Decode(pcm[:], p.payload)
		if err != nil {
			t.Fatal(err)
		}
		d.Hear(pcm[:n], func(k dtmf.Digit) { t.Errorf("%s went on", k.Key()) })
	}
	if len(out.got) != len(wireFrom.got) {
		t.Errorf("%d packets of %d went on", len(out.got), len(wireFrom.got))
	}
}

func TestTonesAreNotListenedForOnceThePeerSendsEvents(t *testing.T) {
	tone, w := toned(nil)
	tone.Press('7', 100*time.Millisecond)
	var got []byte
	s := newStream(nil, "rtp", func(d dtmf.Digit) { got = append(got, byte(d)) })
	s.listenForTones(func(dtmf.Digit) { t.Error("a tone was heard") })
	s.settle(&Agreed{Send: codec("PCMA"), Receive: []sdp.Format{codec("PCMA"), event8k(101)}, Direction: sdp.SendRecv})
	var e [dtmf.EventSize]byte
	dtmf.Event{Code: 5, Duration: 160}.Put(e[:])
	s.receive(packet(101, 1, 100, e[:]))
	for _, p := range w.got {
		s.receive(packet(p.PayloadType, p.SequenceNumber, p.Timestamp, p.payload))
	}
	if string(got) != "5" {
		t.Errorf("%q", got)
	}
}

func TestWithoutEventsAndWithoutTonesNoKeyCanBePressed(t *testing.T) {
	s := newStream(nil, "rtp", nil)
	s.settle(&Agreed{Send: codec("PCMA"), Receive: []sdp.Format{codec("PCMA")}, Direction: sdp.SendRecv})
	if s.Press('7', 100*time.Millisecond) {
		t.Error("it says that it pressed one")
	}
}

func TestKeysInTheSoundUnderLoss(t *testing.T) {
	const keys = 10_000
	for _, c := range []struct {
		loss  float64
		least int // of the keys
	}{{0, keys}, {0.05, keys * 99 / 100}} {
		r := rand.New(rand.NewPCG(7, 8))
		law, ok := transcode.Find(codec("PCMU"))
		if !ok {
			t.Fatal("no mu-law")
		}
		enc, err := law.NewEncoder(8000)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		s := newStream(nil, "rtp", nil)
		s.listenForTones(func(d dtmf.Digit) { got = append(got, byte(d)) })
		s.settle(&Agreed{Send: codec("PCMU"), Receive: []sdp.Format{codec("PCMU")}, Direction: sdp.SendRecv})
		var want []byte
		var rest []int16 // sound that fills no packet yet
		var seq uint16
		raw := make([]byte, Headroom+160)
		for range keys {
			d, _ := dtmf.FromCode(uint8(r.UintN(16)))
			want = append(want, byte(d))
			on := make([]int16, 100*8)
			dtmf.NewTones(d, 8000).Fill(on)
			rest = append(append(rest, on...), make([]int16, 70*8)...)
			for ; len(rest) >= 160; rest = rest[160:] {
				if _, err := enc.Encode(raw[Headroom:], rest[:160]); err != nil {
					t.Fatal(err)
				}
				seq++
				if r.Float64() >= c.loss {
					s.receive(&Packet{PT: 0, Seq: seq, TS: uint32(seq) * 160, SSRC: 7, Raw: raw})
				}
			}
		}
		if c.loss == 0 && string(got) != string(want) {
			t.Errorf("without loss %d of %d keys were heard", len(got), keys)
		}
		if right := common(want, got); right < c.least || len(got) > len(want) {
			t.Errorf("at a loss of %.2f: %d keys of %d in order, %d heard", c.loss, right, keys, len(got))
		}
	}
}

// common is how many keys of want are in got, in order, where none was invented.
func common(want, got []byte) int {
	n := 0
	for _, k := range want {
		if n < len(got) && got[n] == k {
			n++
		}
	}
	return n
}
