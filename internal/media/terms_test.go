package media

import (
	"context"
	"strings"
	"testing"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

func TestABrowsersLineIsNotFilledBeyondItsBandwidth(t *testing.T) {
	w, err := browsers(t).NewWebRTC(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	want := sdp.Session{Terms: sdp.Terms{Bandwidth: 40, Codecs: []string{"PCMA", "opus"}}}
	b, err := w.Offer(context.Background(), want)
	if err != nil {
		t.Fatal(err)
	}
	offer := string(b)
	for _, text := range []string{";maxaveragebitrate=17600\r\n", "opus/48000/2"} {
		if strings.Count(offer, text) != 1 {
			t.Errorf("%q stands %d times in\n%s", text, strings.Count(offer, text), offer)
		}
	}
	for _, name := range []string{"PCMA", "PCMU", "G722"} {
		if strings.Contains(offer, name+"/8000") {
			t.Errorf("%s does not fit, and is offered", name)
		}
	}
	if strings.Contains(offer, "maxplaybackrate") {
		t.Error("nobody said that less is heard")
	}
	a := sdp.Format{Name: "opus", Params: "minptime=10"}
	narrowed(&a, 40)
	if a.Params != "minptime=10;maxaveragebitrate=17600" {
		t.Errorf("our own encoder is told %q", a.Params)
	}
	for kbit, all := range map[int][2]bool{0: {true, true}, 28: {false, false}, 29: {true, false}, 86: {true, false}, 87: {true, true}} {
		if got := [2]bool{Fits("opus", kbit), Fits("PCMA", kbit)}; got != all {
			t.Errorf("into %d kbit/s fit %v, want %v", kbit, got, all)
		}
	}
}

func TestABrowserIsToldHowMuchOfItIsHeard(t *testing.T) {
	far := func(names ...string) sdp.Session {
		m := sdp.Media{Kind: sdp.Audio}
		for _, n := range names {
			m.Formats = append(m.Formats, codec(n))
		}
		return sdp.Session{Media: []sdp.Media{m}}
	}
	said := func(w *WebRTC, s sdp.Session) string {
		b, err := w.Offer(context.Background(), s)
		if err != nil {
			t.Fatal(err)
		}
		_, said, _ := strings.Cut(string(b), "useinbandfec=1")
		said, _, _ = strings.Cut(said, "\r\n")
		return said
	}
	for _, c := range []struct {
		far  sdp.Session
		kbit int
		said string
	}{
		{far("PCMA", "PCMU"), 0, ";maxplaybackrate=8000;maxaveragebitrate=40000"},
		{far("PCMU", "G722"), 0, ";maxplaybackrate=16000;maxaveragebitrate=40000"},
		{far("PCMU"), 40, ";maxplaybackrate=8000;maxaveragebitrate=17600"},
		{far("PCMU"), 400, ";maxplaybackrate=8000;maxaveragebitrate=40000"},
		{far("PCMU", "opus"), 0, ""},
		{far(), 0, ""},
	} {
		w, err := browsers(t).NewWebRTC(nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close() })
		c.far.Terms.Bandwidth = c.kbit
		if got := said(w, c.far); got != c.said {
			t.Errorf("%d kbit/s for %v: %q, want %q", c.kbit, c.far.Media, got, c.said)
		}
	}

	w, err := browsers(t).NewWebRTC(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	asked := func() (n int) {
		for {
			select {
			case e := <-w.Events():
				if e.Kind == Wider {
					n++
				}
			default:
				return n
			}
		}
	}
	said(w, far("PCMA"))
	w.stream.settle(&Agreed{Receive: far("opus").Media[0].Formats, Send: codec("opus")})
	for i, c := range []struct {
		far   string
		asked int
	}{{"PCMU", 0}, {"G722", 1}, {"opus", 0}} {
		NewPath(w.stream, plainStream(c.far))
		if got := asked(); got != c.asked {
			t.Errorf("step %d: another description is asked for %d times", i, got)
		}
	}
	if err := w.Renew(); err != nil {
		t.Fatal(err)
	}
	if got := said(w, far("PCMA")); got != "" {
		t.Errorf("the next description says %q", got)
	}
}
