package sdp

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

const telephone = "v=0\r\no=cisco 1 7 IN IP4 10.0.0.5\r\ns=SIP Call\r\nc=IN IP4 10.0.0.5\r\nt=0 0\r\nm=audio 16384 RTP/AVP 9 0 8 18 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n"

// seeds are the descriptions of the tests below; they seed the fuzzer.
var seeds = []string{
	telephone,
	"m=audio 4000 RTP/AVP 0\n",
	"v=0\na=sendonly\nc=IN IP4 0.0.0.0\no=x\nm=audio 4000 RTP/AVP 8\nm=video 0 RTP/AVP 96\nm=application 5000 TCP/BFCP *\nm=image 6000 udptl t38\n",
	"v=0\r\no=- 1 1 IN IP6 ::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 110 126\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\na=recvonly\r\n",
}

func parse(t *testing.T, s string) *Description {
	t.Helper()
	d, err := Parse([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestParseReadsATelephonesOffer(t *testing.T) {
	l := parse(t, telephone).Lines[0]
	if l.Transport.Addr != netip.MustParseAddr("10.0.0.5") || l.Transport.Port != 16384 || l.PTime != 20*time.Millisecond {
		t.Errorf("%+v", l)
	}
	var names []string
	for _, f := range l.Formats {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != "G722 PCMU PCMA G729 telephone-event" {
		t.Error(got)
	}
}

func TestParseMendsSloppyDescriptions(t *testing.T) {
	d := parse(t, seeds[1])
	if f, ok := d.Lines[0].Codec(); !ok || f.Name != "PCMU" {
		t.Errorf("%+v", d)
	}
	d = parse(t, seeds[2])
	if len(d.Lines) != 4 || d.Lines[0].Direction != SendOnly || !d.Lines[1].Refused || d.Lines[2].Kind != Application || d.Lines[3].Kind != Image {
		t.Errorf("%+v", d.Lines)
	}
}

func TestTheUnspecifiedAddressIsAHoldUnlessICEWillFindOne(t *testing.T) {
	held := strings.Replace(telephone, "c=IN IP4 10.0.0.5", "c=IN IP4 0.0.0.0", 1)
	if d := parse(t, held).Lines[0].Direction; d != SendOnly {
		t.Error(d)
	}
	ice := strings.Replace(held, "audio 16384", "audio 9", 1)
	if d := parse(t, ice).Lines[0].Direction; d != SendRecv {
		t.Error(d)
	}
}

func TestParseRefusesWhatItCannotHold(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"nothing":      {"", ErrSyntax},
		"no media":     {"v=0\r\ns=-\r\n", ErrSyntax},
		"too large":    {telephone + strings.Repeat("a=x\r\n", MaxSize/4), ErrTooLarge},
		"200 m= lines": {strings.Repeat("m=audio 1 RTP/AVP 0\n", 200), ErrTooLarge},
		"100 formats":  {"m=audio 1 RTP/AVP" + strings.Repeat(" 96", 100) + "\n", ErrTooLarge},
		"3000 lines":   {"m=audio 1 RTP/AVP 0\n" + strings.Repeat("a=x\n", 3000), ErrTooLarge},
	} {
		if _, err := Parse([]byte(c.in)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestRecordingIsReadAndWrittenAtTheSession(t *testing.T) {
	for text, want := range map[string]bool{"": false, "a=record:on\r\n": true, "a=record:off\r\n": false, "a=record:paused\r\n": false, "a=recordpref:on\r\n": false} {
		if got := parse(t, telephone+text).Session().Recorded; got != want {
			t.Errorf("%q on a line: recorded %v", text, got)
		}
		if got := parse(t, "v=0\r\n"+text+telephone).Session().Recorded; got != want {
			t.Errorf("%q of the session: recorded %v", text, got)
		}
	}
	d := parse(t, telephone)
	d.Wish, d.Recorded = DontRecord, true
	session, _, _ := strings.Cut(string(d.Bytes()), "m=")
	if !strings.Contains(session, "a=recordpref:off\r\na=record:on\r\n") {
		t.Errorf("written: %s", d.Bytes())
	}
}

func TestDirections(t *testing.T) {
	for _, c := range []struct{ offer, mine, answer Direction }{
		{SendRecv, SendRecv, SendRecv}, {SendOnly, SendRecv, RecvOnly}, {RecvOnly, SendRecv, SendOnly}, {Inactive, SendRecv, Inactive},
		{SendRecv, RecvOnly, RecvOnly}, {SendOnly, SendOnly, Inactive},
	} {
		if got := c.offer.Reverse().And(c.mine); got != c.answer {
			t.Errorf("offer %v, we want %v: answered %v, want %v", c.offer, c.mine, got, c.answer)
		}
	}
}

func TestAnswer(t *testing.T) {
	able := map[Kind][]Format{Audio: {{PT: 8, Name: "PCMA", Clock: 8000}, {PT: 0, Name: "PCMU", Clock: 8000},
		{PT: 100, Name: TelephoneEvent, Clock: 8000}, {PT: 105, Name: TelephoneEvent, Clock: 48000}}}
	offer := parse(t, telephone+"m=video 5000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\nm=audio 6000 RTP/AVP 0\r\n").Session()
	a, err := Answer(offer, able, Session{})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Media) != 3 || !a.Media[1].Refused || !a.Media[2].Refused {
		t.Errorf("lines keep their places, those not met are refused: %+v", a.Media)
	}
	var got []uint8
	for _, f := range a.Media[0].Formats {
		got = append(got, f.PT)
	}
	if !reflect.DeepEqual(got, []uint8{8, 101}) {
		t.Errorf("formats %v: one codec of ours with the offer's types, and its event", got)
	}
	if _, err := Answer(parse(t, "m=audio 1 RTP/AVP 18\n").Session(), able, Session{}); !errors.Is(err, ErrNothingInCommon) {
		t.Error(err)
	}
}

func TestRefusedLinesKeepTheirPlaceWithPortZero(t *testing.T) {
	d := parse(t, seeds[2])
	out := string(d.Bytes())
	for _, want := range []string{"m=audio 4000 RTP/AVP 8\r\n", "m=video 0 RTP/AVP 96\r\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

// FuzzParse: whatever parses is printed so that it parses to the same.
func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(b)
		if err != nil {
			return
		}
		for i := range d.Lines {
			l := &d.Lines[i]
			if len(l.Formats) == 0 || l.Kind != Audio {
				return // what is not RTP sound is never printed but refused
			}
			l.Transport.Protocol, l.Transport.Addr, l.Direction = "RTP/AVP", netip.Addr{}, SendRecv
		}
		if d.Addr.IsValid() && d.Addr.IsUnspecified() {
			return
		}
		d.Addr = netip.MustParseAddr("192.0.2.1")
		again, err := Parse(d.Bytes())
		if err != nil {
			t.Fatalf("%v: %q", err, d.Bytes())
		}
		for i := range d.Lines {
			a, b := d.Lines[i].Media, again.Lines[i].Media
			if a.Refused != b.Refused {
				t.Fatalf("%+v became %+v", a, b)
			}
			if !a.Refused && len(a.Formats) != len(b.Formats) {
				t.Fatalf("%+v became %+v", a.Formats, b.Formats)
			}
		}
	})
}

func TestKeysInTheDescription(t *testing.T) {
	key := strings.Repeat("A", 40) // 30 bytes
	for _, c := range []struct {
		line string
		want string // as rendered; "": passed over
	}{
		{"1 AES_CM_128_HMAC_SHA1_80 inline:" + key, "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + key},
		{"2 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|2^20", "a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:" + key},
		{"3 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|2^20|258:2 WSH=64 -FEC", "a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|2^31|258:2"},
		{"4 AES_CM_128_HMAC_SHA1_80 inline:AAA=", "a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:AAA="},
		{"5 AES_CM_128_HMAC_SHA1_80 inline:AAA", "a=crypto:5 AES_CM_128_HMAC_SHA1_80 inline:AAA="},
		{"6 AES_CM_128_HMAC_SHA1_80 inline:" + key + " UNENCRYPTED_SRTP", ""},
		{"7 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|1:1;inline:" + key + "|2:1", ""},
		{"8 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|256:1", ""},
		{"9 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|1:129", ""},
		{"x AES_CM_128_HMAC_SHA1_80 inline:" + key, ""},
		{"1 AES_CM_128_HMAC_SHA1_80", ""},
		{"1 AES_CM_128_HMAC_SHA1_80 inline:???", ""},
	} {
		d, err := Parse([]byte("v=0\r\nm=audio 9 RTP/SAVP 8\r\na=crypto:" + c.line + "\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		s := d.Lines[0].Transport.Secrecy
		if c.want == "" && len(s.Crypto) > 0 || c.want != "" && !strings.Contains(string(d.Bytes()), c.want+"\r\n") {
			t.Errorf("%s became\n%s", c.line, d.Bytes())
		}
	}
}
