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
