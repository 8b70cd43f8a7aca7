package media

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode"
)

// arrival is a packet of a talker on its way through a network.
type arrival struct {
	at, sent time.Duration
	pkt      Packet
}

// talker makes 20 ms packets of a vowel in A-law.
func talker(t testing.TB, frames int) []arrival {
	t.Helper()
	c, _ := transcode.Find(codec("PCMA"))
	e, err := c.NewEncoder(8000)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]arrival, frames)
	pcm := make([]int16, 160)
	for n := range out {
		for i := range pcm {
			at := float64(n*160+i) / 8000
			v := 0.0
			for k := 1.0; k <= 6; k++ {
				v += math.Sin(2*math.Pi*125*k*at+k) / k
			}
			pcm[i] = int16(v * 4000)
		}
		raw := make([]byte, Headroom+160)
		if _, err := e.Encode(raw[Headroom:], pcm); err != nil {
			t.Fatal(err)
		}
		at := time.Duration(n) * 20 * time.Millisecond
		out[n] = arrival{at, at, Packet{PT: 8, Seq: uint16(n + 65000), TS: uint32(n)*160 + 0xffff0000, SSRC: 7, Raw: raw}}
	}
	return out
}

// played is one frame that went out, and when.
type played struct {
	at time.Duration
	sent
}

// timed keeps what a stream sends with the time of the test.
type timed struct {
	at  time.Duration
	got []played
}

func (w *timed) transmit(h *rtp.Header, raw []byte) error {
	w.got = append(w.got, played{w.at, sent{*h, append([]byte(nil), raw[Headroom:]...)}})
	return nil
}

// carry plays arrivals through a path from A-law to mu-law, in virtual time.
func carry(all []arrival) ([]played, Stats) {
	return carryFrom([]sdp.Format{codec("PCMA")}, &Agreed{Send: codec("PCMU")}, all)
}

// carryFrom plays arrivals of these formats to whoever agreed on that.
func carryFrom(from []sdp.Format, to *Agreed, all []arrival) ([]played, Stats) {
	src := newStream(nil, "rtp", nil)
	src.settle(&Agreed{Send: from[0], Receive: from, Direction: sdp.SendRecv})
	dst := newStream(nil, "rtp", nil)
	w := new(timed)
	var below transmitter = w
	dst.below.Store(&below)
	to.Receive, to.Direction, to.PTime = []sdp.Format{to.Send}, sdp.SendRecv, 20*time.Millisecond
	dst.settle(to)
	p := NewPath(src, dst)
	p.now = func() time.Duration { return w.at }
	src.Forward(p)
	slices.SortStableFunc(all, func(a, b arrival) int { return int(a.at - b.at) })
	end := all[len(all)-1].at + 500*time.Millisecond
	i := 0
	for beatAt := beat; beatAt < end; beatAt += beat {
		for ; i < len(all) && all[i].at <= beatAt; i++ {
			w.at = all[i].at
			src.receive(&all[i].pkt)
		}
		w.at = beatAt
		p.play(beatAt)
	}
	return w.got, src.Stats()
}

// listened is the sound that went out.
func listened(got []played) []int16 {
	c, _ := transcode.Find(codec("PCMU"))
	d, err := c.NewDecoder(8000)
	if err != nil {
		panic(err)
	}
	var out []int16
	var pcm [transcode.MaxPayload]int16
	for _, g := range got {
		n, err := d.Decode(pcm[:], g.payload)
		if err != nil {
			panic(err)
		}
		out = append(out, pcm[:n]...)
	}
	return out
}

// click is the largest step from one sample to the next.
func click(pcm []int16) int {
	most := 0
	for i := 1; i < len(pcm); i++ {
		if d := int(pcm[i]) - int(pcm[i-1]); d > most {
			most = d
		} else if -d > most {
			most = -d
		}
	}
	return most
}

// smooth is the largest step that the talker's own sound has, and a quarter.
const smooth = 7500 * 5 / 4

// continuous reports whether frames go out one after the other, as the clock of
// the far end expects them.
func continuous(t *testing.T, got []played) {
	t.Helper()
	for i := 1; i < len(got); i++ {
		if d := got[i].Timestamp - got[i-1].Timestamp; d != 160 || got[i].SequenceNumber-got[i-1].SequenceNumber != 1 {
			t.Fatalf("frame %d is stamped %d after the one before, number %d after", i, d, got[i].SequenceNumber-got[i-1].SequenceNumber)
		}
		if d := got[i].at - got[i-1].at; d < 10*time.Millisecond || d > 30*time.Millisecond {
			t.Fatalf("frame %d goes out %v after the one before", i, d)
		}
	}
}

// delay is how long sound takes through the gateway, of the last frames: what
// was sent last, against when as much had gone out.
func lag(all []arrival, got []played) time.Duration {
	last := slices.MaxFunc(all, func(a, b arrival) int { return int(a.sent - b.sent) })
	// The frames after it are what conceals the end.
	n := len(got) - int(giveUp/(20*time.Millisecond))
	return got[n-1].at - last.sent
}

func TestACleanNetworkCostsLittleDelayAndNothingIsMadeUp(t *testing.T) {
	all := talker(t, 500)
	got, s := carry(all)
	continuous(t, got)
	if s.Late != 0 || s.Concealed > giveUp {
		t.Errorf("%+v", s)
	}
	if d := lag(all, got); d > 30*time.Millisecond {
		t.Errorf("sound takes %v", d)
	}
	if c := click(listened(got)); c > smooth {
		t.Errorf("a step of %d", c)
	}
}

func TestTheDelayFollowsTheNetwork(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	all := talker(t, 3000) // a minute: 20 s clean, 20 s of 80 ms jitter, 20 s clean
	for i := range all {
		if i >= 1000 && i < 2000 {
			all[i].at += time.Duration(r.Int64N(int64(80 * time.Millisecond))) // packets overtake each other
		}
	}
	got, s := carry(slices.Clone(all))
	continuous(t, got)
	if s.Concealed > 600*time.Millisecond {
		t.Errorf("%v were made up, %d came late", s.Concealed, s.Late)
	}
	if s.Late > 40 {
		t.Errorf("%d of 1000 came late", s.Late)
	}
	if d := lag(all, got); d > 60*time.Millisecond {
		t.Errorf("20 s after the jitter ended, sound still takes %v", d)
	}
	if c := click(listened(got)); c > smooth {
		t.Errorf("a step of %d", c)
	}
}

func TestLossIsMadeUpAndNothingElse(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var all []arrival
	missing := 0
	for _, a := range talker(t, 3000) {
		if r.Float64() < 0.05 {
			missing++
			continue
		}
		all = append(all, a)
	}
	got, s := carry(all)
	continuous(t, got)
	if want := time.Duration(missing) * 20 * time.Millisecond; s.Concealed < want*9/10 || s.Concealed > want*12/10+giveUp {
		t.Errorf("%v were lost, %v made up", want, s.Concealed)
	}
	pcm := listened(got)
	if c := click(pcm); c > 2*smooth {
		t.Errorf("a step of %d", c)
	}
	for at := 8000; at+160 < len(pcm)-16000; at += 160 {
		if l := level(pcm[at : at+160]); l > 30 {
			t.Fatalf("20 ms are %.0f dB below the overload point where the talker is never silent", l)
		}
	}
}

func TestABurstAddsNothingToTheDelay(t *testing.T) {
	var all []arrival
	missing := 0
	for n, a := range talker(t, 3000) {
		if n > 50 && n < 2900 && n%50 < 5 { // 100 ms of each second
			missing++
			continue
		}
		all = append(all, a)
	}
	got, s := carry(all)
	continuous(t, got)
	if want := time.Duration(missing) * 20 * time.Millisecond; s.Concealed < want*9/10 || s.Concealed > want*11/10+giveUp {
		t.Errorf("%v were lost, %v made up", want, s.Concealed)
	}
	if d := lag(all, got); d > 60*time.Millisecond {
		t.Errorf("after a minute of bursts sound takes %v", d)
	}
}

func TestWhatComesTwiceIsPlayedOnce(t *testing.T) {
	all := talker(t, 200)
	twice := append(slices.Clone(all), all...)
	got, s := carry(twice)
	continuous(t, got)
	if len(got) < 200 || len(got) > 200+int(giveUp/beat) || s.Late != 200 {
		t.Errorf("%d frames, %d packets dropped", len(got), s.Late)
	}
}

func TestClocksThatDifferAreMadeUpForWithoutAClickForAnHour(t *testing.T) {
	if testing.Short() {
		t.Skip("an hour of sound")
	}
	for _, ppm := range []time.Duration{200, -200} {
		all := talker(t, 180_000)
		for i := range all {
			all[i].at -= all[i].at * ppm / 1_000_000
			all[i].sent = all[i].at
		}
		got, s := carry(all)
		continuous(t, got)
		if s.Concealed > giveUp+200*time.Millisecond || s.Late > 0 {
			t.Errorf("%d ppm: %v made up, %d late", ppm, s.Concealed, s.Late)
		}
		if d := lag(all, got); d > 80*time.Millisecond {
			t.Errorf("%d ppm: after an hour sound takes %v", ppm, d)
		}
		if c := click(listened(got)); c > smooth {
			t.Errorf("%d ppm: a step of %d", ppm, c)
		}
	}
}

func TestASendersSilenceIsSilence(t *testing.T) {
	all := talker(t, 200)
	for i := 100; i < 200; i++ { // three seconds without a packet, the numbers go on
		all[i].at += 3 * time.Second
		all[i].pkt.TS += 3 * 8000
		all[i].pkt.Marker = i == 100
	}
	got, s := carry(all)
	if s.Concealed > 2*giveUp {
		t.Errorf("%v were made up", s.Concealed)
	}
	breaks := 0
	for i := 1; i < len(got); i++ {
		d := got[i].Timestamp - got[i-1].Timestamp
		if d == 160 {
			continue
		}
		breaks++
		if !got[i].Marker {
			t.Error("the talk spurt begins without a marker")
		}
		if want := uint32((got[i].at - got[i-1].at) * 8000 / time.Second); d < want-160 || d > want+160 {
			t.Errorf("the pause lasts %d ticks, the clock says %d", d, want)
		}
	}
	if breaks != 1 {
		t.Errorf("%d breaks", breaks)
	}
}

func TestASenderThatBeginsAnewIsFollowed(t *testing.T) {
	all := talker(t, 200)
	for i := 100; i < 200; i++ {
		all[i].pkt.SSRC, all[i].pkt.Seq, all[i].pkt.TS = 8, uint16(i), uint32(i)*160+99
	}
	got, s := carry(all)
	continuous(t, got)
	if s.Late > 0 || s.Concealed > giveUp+40*time.Millisecond || len(got) < 198 {
		t.Errorf("%d frames, %+v", len(got), s)
	}
}

func TestThePacketTimeMayChange(t *testing.T) {
	all := talker(t, 300)
	var out []arrival
	seq := all[0].pkt.Seq
	for i := 0; i < 300; i++ {
		a := all[i]
		a.pkt.Seq = seq
		seq++
		if i >= 100 && i+1 < 300 && i < 200 { // two in one
			a.pkt.Raw = append(append([]byte(nil), a.pkt.Raw...), all[i+1].pkt.Raw[Headroom:]...)
			a.at = all[i+1].at
			i++
		}
		out = append(out, a)
	}
	got, s := carry(out)
	continuous(t, got)
	if s.Late > 0 || s.Concealed > giveUp+60*time.Millisecond {
		t.Errorf("%+v", s)
	}
	if c := click(listened(got)); c > smooth {
		t.Errorf("a step of %d", c)
	}
}

func TestALongPacketsLossIsMadeUpWhole(t *testing.T) {
	coder, err := transcode.New(codec("PCMA"), codec("PCMU"), 60*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	p, s := newPlayer(coder, 8000), plainStream("PCMA")
	for _, n := range []uint16{0, 2} { // 40 ms each
		p.take(&Packet{Seq: n, TS: uint32(n) * 320, Raw: make([]byte, Headroom+320)}, false, 0)
	}
	for range 2 {
		p.more(0, s)
	}
	if got := coder.Pending(); got != 80*time.Millisecond {
		t.Errorf("a packet of 40 ms and the loss of one make %v", got)
	}
}

// What the far end reports lost makes Opus code so that it can repeat itself (SILK), and
// take the room for it.
func TestTheEncoderHearsOfLoss(t *testing.T) {
	size := func(loss uint8, params string) (n, silk int) {
		src := plainStream("PCMA")
		dst := plainStream("opus")
		told := *dst.agreed.Load()
		told.Send.Params = params
		dst.agreed.Store(&told)
		p, w := timedPath(src, dst)
		dst.hear([]rtcp.Packet{&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: dst.ssrc.Load(), FractionLost: loss}}}})
		for _, a := range talker(t, 200) {
			w.at = a.at
			src.receive(&a.pkt)
			p.play(a.at + beat)
		}
		for _, g := range w.got {
			n += len(g.payload)
			if g.payload[0]>>3 < 12 { // RFC 6716 §3.1
				silk++
			}
		}
		return n, silk
	}
	if _, silk := size(0, ""); silk > 0 {
		t.Errorf("%d packets without loss are ready to repeat themselves", silk)
	}
	if _, silk := size(50, ""); silk < 190 {
		t.Errorf("%d of 200 packets could repeat themselves, where a fifth is lost", silk)
	}
	quiet, _ := size(0, "usedtx=1")
	if repeating, _ := size(50, "usedtx=1"); repeating < quiet*11/10 {
		t.Errorf("%d octets without loss, %d where a fifth is lost", quiet, repeating)
	}
}

func TestSoundWaitsForItsRepairWherePacketsAreLost(t *testing.T) {
	for name, repeats := range map[string]bool{"opus": true, "PCMA": false} {
		coder, err := transcode.New(codec(name), codec("PCMU"), 20*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		p := newPlayer(coder, codec(name).Clock)
		before := p.delay()
		for n := range 100 {
			if n%10 != 5 {
				p.jitter.put(&Packet{Seq: uint16(n), TS: uint32(n * codec(name).Clock / 50), Raw: make([]byte, Headroom+1)}, false, time.Duration(n)*20*time.Millisecond)
			}
			p.jitter.fetch(time.Duration(n) * 20 * time.Millisecond)
		}
		if waits := p.delay() >= before+20*time.Millisecond; waits != repeats {
			t.Errorf("%s: %v before packets were lost, %v after", name, before, p.delay())
		}
	}
}

func TestWordsLastAsLongAsTheyDidWherePausesAreEnough(t *testing.T) {
	coder, err := transcode.New(codec("PCMA"), codec("opus"), 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlayer(coder, 8000) // which knows of no late packet
	for _, c := range []struct {
		at, after time.Duration
		want      transcode.Tempo
	}{
		{1 * time.Second, 10 * time.Millisecond, transcode.Steady},
		{2 * time.Second, 50 * time.Millisecond, transcode.Tighter},
		{6 * time.Second, 50 * time.Millisecond, transcode.Tighter},
		{8 * time.Second, 50 * time.Millisecond, transcode.Shorter},
		{8*time.Second + ease/2, 50 * time.Millisecond, transcode.Steady},
		{9 * time.Second, 20 * time.Millisecond, transcode.Steady},
		{10 * time.Second, 50 * time.Millisecond, transcode.Tighter}, // patient once more
		{11 * time.Second, 200 * time.Millisecond, transcode.Shorter},
		{12 * time.Second, 0, transcode.Longer},
	} {
		if got := p.tempo(c.at, c.after); got != c.want {
			t.Errorf("at %v, played after %v: tempo %d, want %d", c.at, c.after, got, c.want)
		}
	}
}

// A drum that is late does not make the sound late: it is played for when it was due.
func TestALateDrumTouchesNoWord(t *testing.T) {
	src, dst := plainStream("PCMA"), plainStream("opus")
	p, w := timedPath(src, dst)
	all := talker(t, 200)
	first := all[0].at
	for i, a := range all {
		w.at = a.at
		src.receive(&a.pkt)
		if i%10 == 9 { // 200 ms late
			p.play(a.at)
		}
	}
	p.play(all[len(all)-1].at + 10*beat)
	if pl := p.playing.player; pl.changed != 0 || pl.ample != 0 {
		t.Errorf("begun at %v, the tempo changed at %v, too much waited since %v", first, pl.changed, pl.ample)
	}
}

// timedPath is a path whose clock is that of what it ends in.
func timedPath(src, dst *Stream) (*Path, *timed) {
	w := new(timed)
	var below transmitter = w
	dst.below.Store(&below)
	p := NewPath(src, dst)
	p.now = func() time.Duration { return w.at }
	src.Forward(p)
	return p, w
}
