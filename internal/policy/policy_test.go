package policy

import (
	"fmt"
	"testing"
)

var hospital = Config{
	Emergency: Emergency{Numbers: []string{"112"}},
	Routes: []Route{
		{Name: "no premium numbers", When: `call.to.user.startsWith("900")`, To: []string{"refuse:403"}},
		{Name: "patients", When: `call.source == "browser" && call.to.user != ""`, To: []string{"trunk:pbx/1000", "trunk:backup"}, Codecs: []string{"opus"}},
		{Name: "telephones", When: `call.trunk == "pbx" && call.to.user.matches("^7[0-9]{6}$")`, To: []string{"visit"}},
	},
}

var known = Names{Trunks: []string{"pbx", "backup"}, Codecs: []string{"opus", "PCMU"}}

func TestDecide(t *testing.T) {
	p, err := Compile(hospital, known)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, source, to string
		kind             Kind
		route, targets   string
		status, tried    int
	}{
		{"a patient reaches the first target and then the next", "browser", "sip:2000@h", Routed, "patients", "[trunk:pbx/1000 trunk:backup/2000]", 0, 2},
		{"a telephone reaches a visit", "pbx", "7123456", Routed, "telephones", "[visit]", 0, 3},
		{"a short code is no visit", "pbx", "7123", Unmatched, "", "[]", 404, 3},
		{"a premium number is refused before anything else", "browser", "900123", Refused, "no premium numbers", "[]", 403, 1},
		{"an emergency number stands before every route", "browser", "112", IsUrgent, "", "[]", 403, 1},
		{"a trunk of another name matches nothing", "backup", "7123456", Unmatched, "", "[]", 404, 3},
	} {
		e := p.Explain(Ask(c.source, "sip:1@h", c.to))
		if e.Kind != c.kind || e.Route != c.route || fmt.Sprint(e.Names) != c.targets || e.Status != c.status || len(e.Trace) != c.tried {
			t.Errorf("%s: %+v", c.name, e)
		}
	}
}

func TestEveryFaultIsReported(t *testing.T) {
	_, err := Compile(Config{Routes: []Route{{Name: "a", When: "call.nobody", To: []string{"trunk:x"}}, {Name: "a", When: "1 + 1", To: nil}, {To: []string{"refuse:200", "visit:x", "moon"}}}}, known)
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 8 {
		t.Errorf("%v", err)
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]Address{
		`"Ana" <sip:1000@h;x=y>`: {User: "1000", Host: "h", Display: "Ana"}, "sip:1000@h": {User: "1000", Host: "h"}, "1000": {User: "1000"}, "": {},
	} {
		if got := ParseAddress(in); got != want {
			t.Errorf("%q: %+v", in, got)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	p, err := Compile(hospital, known)
	if err != nil {
		b.Fatal(err)
	}
	q := Query{Call: Call{Source: "pbx", Trunk: "pbx", To: Address{User: "7123456"}}}
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(q)
	}
}
