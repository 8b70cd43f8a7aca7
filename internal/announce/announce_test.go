package announce

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wav is a file with a chunk that nobody knows before its sound.
func wav(kind, channels uint16, hz uint32, bits uint16, data []byte) []byte {
	var b bytes.Buffer
	word := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	b.WriteString("RIFF\x00\x00\x00\x00WAVELIST\x03\x00\x00\x00abc\x00fmt ")
	word(uint32(16))
	word(kind)
	word(channels)
	word(hz)
	word(uint32(0))
	word(uint16(0))
	word(bits)
	b.WriteString("data")
	word(uint32(len(data)))
	b.Write(data)
	return b.Bytes()
}

func TestRecordingsAreRead(t *testing.T) {
	for what, c := range map[string]struct {
		file []byte
		want []byte
		err  string
	}{
		"mu-law":              {file: wav(waveMulaw, 1, 8000, 8, []byte{1, 2, 3}), want: []byte{1, 2, 3}},
		"A-law":               {file: wav(waveALaw, 1, 8000, 8, []byte{0xd5, 0x55}), want: []byte{0xfe, 0x7e}},
		"16 bits":             {file: wav(wavePCM, 1, 8000, 16, []byte{0, 0, 0xff, 0x7f}), want: []byte{0xff, 0x80}},
		"a size that is most": {file: append(wav(waveMulaw, 1, 8000, 8, nil)[:52], 0xff, 0xff, 0xff, 0xff, 7, 8), want: []byte{7, 8}},
		"stereo":              {file: wav(wavePCM, 2, 8000, 16, nil), err: "2 channels"},
		"a compact disc's":    {file: wav(wavePCM, 1, 44100, 16, nil), err: "44100 Hz"},
		"24 bits":             {file: wav(wavePCM, 1, 8000, 24, nil), err: "24 bits"},
		"cut off":             {file: wav(wavePCM, 1, 8000, 16, nil)[:36], err: "cut off"},
		"no sound":            {file: wav(wavePCM, 1, 8000, 16, nil)[:48], err: "no sound"},
		"no WAV":              {file: []byte("OggS, which is something else"), err: "no WAV"},
		"nothing":             {err: "no WAV"},
	} {
		got, err := decode(c.file)
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) || c.err == "" && (err != nil || !bytes.Equal(got, c.want)) {
			t.Errorf("%s: %x, %v", what, got, err)
		}
	}
}

func FuzzRecordings(f *testing.F) {
	f.Add(wav(wavePCM, 1, 8000, 16, []byte{1, 2, 3, 4}))
	f.Add(wav(waveALaw, 1, 8000, 8, []byte{1}))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = decode(b) })
}

func announcer(t *testing.T, c Config) *Announcer {
	t.Helper()
	c.File = filepath.Join(t.TempDir(), "r.wav")
	if err := os.WriteFile(c.File, wav(waveMulaw, 1, 8000, 8, bytes.Repeat([]byte{0x55}, 1600)), 0o600); err != nil {
		t.Fatal(err)
	}
	loops, err := media.NewLoops(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { loops.Close() })
	a, err := New(loops, map[string]Config{"closed": c})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ear counts the packets that it hears.
type ear struct{ heard chan byte }

func (e ear) WriteRTP(p *media.Packet) { e.heard <- p.Payload()[0] }

func TestARecordingBeginsWhenItIsHeardAndEndsByItself(t *testing.T) {
	a := announcer(t, Config{Times: 2, Status: 486})
	l, err := a.Dial(context.Background(), policy.Target{Kind: "announce", Name: "closed"}, call.Facts{}, sdp.Session{})
	if err != nil {
		t.Fatal(err)
	}
	if e := <-l.Events(); e.Ringing != 183 || !e.Sound {
		t.Errorf("first: %+v", e)
	}
	time.Sleep(100 * time.Millisecond)
	e := ear{make(chan byte, 100)}
	l.Media().Stream(sdp.Audio).Forward(e)
	if end := <-l.Events(); end.Ended == nil || end.Ended.Status != 486 {
		t.Errorf("at the end: %+v", end)
	}
	<-l.Done()
	close(e.heard)
	said := 0
	for first := range e.heard { // silence came before it, perhaps
		if first == 0x55 {
			said++
		}
	}
	if said != 20 {
		t.Errorf("%d packets of 20 were heard", said)
	}
}

func TestARecordingThatIsAnsweredMayBeHungUp(t *testing.T) {
	a := announcer(t, Config{Answer: true})
	l, err := a.Dial(context.Background(), policy.Target{Kind: "announce", Name: "closed"}, call.Facts{}, sdp.Session{})
	if err != nil {
		t.Fatal(err)
	}
	if e := <-l.Events(); !e.Answered {
		t.Errorf("first: %+v", e)
	}
	l.Hangup(call.Cancelled)
	l.Hangup(call.NormalClearing)
	if e := <-l.Events(); e.Ended == nil || e.Ended.Status != 487 {
		t.Errorf("at the end: %+v", e)
	}
	<-l.Done()
	if _, err := a.Dial(context.Background(), policy.Target{Name: "open"}, call.Facts{}, sdp.Session{}); err == nil {
		t.Error("a recording that there is not was played")
	}
}

func TestWhatIsNoRecording(t *testing.T) {
	for want, c := range map[string]Config{"no number of times": {Times: -1}, "no SIP status": {Status: 200}, "no such file": {File: "/nowhere.wav"}} {
		if got := c.Check(); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
