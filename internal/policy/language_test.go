package policy

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

// region is a policy that uses all of the language.
func region(t testing.TB, change func(*Config)) *Policy {
	t.Helper()
	files := map[string]string{
		"cardiology.csv": "name,extension\nAna Luz, 2101\n\"Sá, Rui\",2102\n",
		"days.csv":       "2026-06-10\n",
	}
	c := Config{
		Emergency: Emergency{Numbers: []string{"112"}, To: []string{"trunk:city/112", "trunk:pbx"}, Text: map[string]string{"pt": "Ligue 112."}},
		TimeZone:  "Europe/Lisbon", Country: "PT",
		Sets:      map[string]Set{"cardiology": {Of: []string{"2100"}, File: "cardiology.csv", Column: "extension"}},
		Calendars: map[string]Calendar{"holidays": {Of: []string{"12-25"}, File: "days.csv"}},
		Routes: []Route{
			{Name: "nobody abroad", When: `call.to.e164 != "" && !call.to.e164.startsWith("+351")`, To: []string{"refuse:603"}},
			{Name: "cardiology at any hour", When: `call.source == "pbx" && call.from.user in sets.cardiology && call.to.user.matches("^7[0-9]{6}$")`, To: []string{"visit"}},
			{Name: "others by day", When: `call.source == "pbx" && call.to.user.startsWith("7") && call.at.hour >= 8 && call.at.hour < 20 && !call.at.weekend && !call.at.on(calendars.holidays)`, To: []string{"visit"}, Limit: Limited{Calls: 2, By: "from", Full: "next"}},
			{Name: "by department", When: `call.source == "browser" && call.label("department") == "cardiology"`, To: []string{"trunk:pbx/2100 & trunk:city/2101", "trunk:pbx/2000"}, Caller: "213000000"},
			{Name: "wards that say so", When: `call.header("X-Ward") == "4B"`, To: []string{"trunk:pbx"}, Number: Rewrite{Strip: 1, Prefix: "00"}},
			{Name: "the way that is up", When: `call.source == "browser" && !trunks.city.up`, To: []string{"trunk:pbx/9"}},
			{Name: "to the city", When: `call.source == "browser"`, To: []string{"trunk:city"}, Number: Rewrite{E164: true}},
		},
	}
	if change != nil {
		change(&c)
	}
	p, err := Compile(c, Names{Trunks: []string{"pbx", "city"}, Codecs: []string{"opus"}, Read: func(f string) ([]byte, error) {
		if text, ok := files[f]; ok {
			return []byte(text), nil
		}
		return nil, errors.New("no such file: " + f)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheLanguage(t *testing.T) {
	p := region(t, nil)
	for _, x := range []Expectation{
		{Name: "one of a set, at night", Source: "pbx", From: "2102", To: "7123456", At: "2026-11-21 23:00", Route: "cardiology at any hour", Targets: []string{"visit"}},
		{Name: "one who is in none, at night", Source: "pbx", From: "2300", To: "7123456", At: "2026-11-20 23:00", Decision: "none"},
		{Name: "one who is in none, by day", Source: "pbx", From: "2300", To: "7123456", At: "2026-11-20 08:00", Route: "others by day"},
		{Name: "on a Saturday", Source: "pbx", From: "2300", To: "7123456", At: "2026-11-21 10:00", Decision: "none"},
		{Name: "on a day of every year", Source: "pbx", From: "2300", To: "7123456", At: "2026-12-25 10:00", Decision: "none"},
		{Name: "on a day of this year, of a file", Source: "pbx", From: "2300", To: "7123456", At: "2026-06-10 10:00", Decision: "none"},
		{Name: "in the site's summer time", Source: "pbx", From: "2300", To: "7123456", At: "2026-07-01T07:30:00Z", Route: "others by day"},
		{Name: "by a label, several at once", Source: "browser", To: "sip:1000@h", Labels: map[string]string{"department": "cardiology"}, Route: "by department", Targets: []string{"trunk:pbx/2100 & trunk:city/2101", "trunk:pbx/2000"}, Caller: "213000000"},
		{Name: "by a header, rewritten", Source: "city", To: "912345", Headers: map[string]string{"x-ward": "4B"}, Route: "wards that say so", Targets: []string{"trunk:pbx/0012345"}},
		{Name: "abroad", Source: "browser", To: "0044 20 7946 0018", Route: "nobody abroad", Status: 603, Decision: "refuse"},
		{Name: "as the world dials it", Source: "browser", To: "213 000 123", Route: "to the city", Targets: []string{"trunk:city/+351213000123"}},
		{Name: "an extension stays", Source: "browser", To: "1000", Targets: []string{"trunk:city/1000"}},
		{Name: "when a trunk is down", Source: "browser", To: "1000", Down: []string{"city"}, Route: "the way that is up"},
		{Name: "help, from a telephone", Source: "pbx", To: "112", Decision: "emergency", Targets: []string{"trunk:city/112", "trunk:pbx/112"}},
		{Name: "help, from a page", Source: "browser", To: "112", Decision: "emergency", Status: 403},
	} {
		e, differences, err := x.Meet(p)
		if err != nil || len(differences) > 0 {
			t.Errorf("%s: %v %v\n%+v", x.Name, differences, err, e.Trace)
		}
	}
	if w := p.Warnings(); len(w) > 0 {
		t.Errorf("warned of %v", w)
	}
}

func TestARouteThatIsFullMakesWayForTheNext(t *testing.T) {
	p := region(t, func(c *Config) {
		c.Routes = []Route{{Name: "few", When: `call.source == "pbx"`, To: []string{"visit"}, Limit: Limited{Calls: 1, By: "to", Full: "next"}}, {Name: "all", To: []string{"trunk:city"}}}
	})
	d := p.Decide(Ask("pbx", "1", "7"))
	if d.Route != "few" || d.Key != "7" || d.Limit.Calls != 1 {
		t.Fatalf("%+v", d)
	}
	q := Ask("pbx", "1", "7")
	q.After = d.Next
	if d = p.Decide(q); d.Route != "all" {
		t.Errorf("%+v", d)
	}
}

func TestWeights(t *testing.T) {
	p := region(t, func(c *Config) {
		c.Routes = []Route{{Name: "r", To: []string{"trunk:pbx*3 | trunk:city*1 | visit", "trunk:pbx/9"}}}
	})
	n := map[string]int{}
	for i := range 1000 {
		q := Ask("pbx", "1", "7")
		q.Dice = float64(i) / 1000
		n[fmt.Sprint(names(p.Decide(q).Groups))]++
	}
	want := map[string]int{"[trunk:pbx/7 trunk:city/7 visit trunk:pbx/9]": 600, "[trunk:city/7 trunk:pbx/7 visit trunk:pbx/9]": 200, "[visit trunk:pbx/7 trunk:city/7 trunk:pbx/9]": 200}
	if !maps.Equal(n, want) {
		t.Errorf("%v", n)
	}
}

func TestExplainSaysWhatFailed(t *testing.T) {
	p := region(t, nil)
	q := Ask("pbx", "2300", "7123456")
	q.At = time.Date(2026, 11, 20, 23, 0, 0, 0, time.UTC)
	e := p.Explain(q)
	want := []string{
		`call.to.e164 != "" is false: call.to.e164 is ""`,
		`call.from.user in sets.cardiology is false: call.from.user is "2300"`,
		`call.at.hour < 20 is false: call.at.hour is 23`,
		`call.source == "browser" is false: call.source is "pbx"`,
		`call.header("X-Ward") == "4B" is false: call.header("X-Ward") is ""`,
		`call.source == "browser" is false: call.source is "pbx"`,
		`call.source == "browser" is false: call.source is "pbx"`,
	}
	if len(e.Trace) != len(want) {
		t.Fatalf("%+v", e.Trace)
	}
	for i, s := range e.Trace {
		if s.Why != want[i] || s.Matched {
			t.Errorf("%s:\n  %s\n  want %s", s.Route, s.Why, want[i])
		}
	}
	q = Ask("browser", "", "1000")
	q.Trunks = func(string) Trunk { return Trunk{Calls: 3} }
	e = p.Explain(q)
	if last := e.Trace[len(e.Trace)-1]; last.Why != `the condition holds: call.source is "browser", trunks.city.up is false` {
		t.Errorf("%+v", last)
	}
}

func TestFaultsOfTheLanguageAreNamed(t *testing.T) {
	files := map[string]string{"short.csv": "a,b\n1\n", "empty.csv": "1\n\"\"\n", "quote.csv": "1\na\"b\n", "days.csv": "2026-12-25\nsoon\n"}
	for _, c := range []struct {
		name   string
		config Config
		want   string
	}{
		{"a set that is not there", Config{Routes: []Route{{When: `call.to.user in sets.cardio`, To: []string{"visit"}}}}, "undeclared reference to 'sets'"},
		{"a fact that is not there", Config{Routes: []Route{{When: `call.at.year == 2026`, To: []string{"visit"}}}}, "undefined field 'year'"},
		{"a number where a text is", Config{Routes: []Route{{When: `call.to.user == 5`, To: []string{"visit"}}}}, "no matching overload"},
		{"a zone", Config{TimeZone: "Lisbon"}, `no time zone is named "Lisbon"`},
		{"a country", Config{Country: "Portugal"}, `"Portugal" is no country`},
		{"a day", Config{Calendars: map[string]Calendar{"c": {Of: []string{"25-12"}}}}, `"25-12" is no day`},
		{"a day of a file", Config{Calendars: map[string]Calendar{"c": {File: "days.csv"}}}, `days.csv:2: "soon" is no day`},
		{"a file", Config{Sets: map[string]Set{"s": {File: "none.csv"}}}, "no such file: none.csv"},
		{"a short row", Config{Sets: map[string]Set{"s": {File: "short.csv"}}}, "short.csv:2: wrong number of fields"},
		{"an empty entry", Config{Sets: map[string]Set{"s": {File: "empty.csv"}}}, "empty.csv:2: the entry is empty"},
		{"a quote", Config{Sets: map[string]Set{"s": {File: "quote.csv"}}}, `quote.csv:2: bare " in non-quoted-field`},
		{"a column", Config{Sets: map[string]Set{"s": {File: "short.csv", Column: "c"}}}, `no column is named "c", only a, b`},
		{"a name", Config{Sets: map[string]Set{"the ward": {}}}, `a set cannot be named "the ward"`},
		{"a pattern", Config{Routes: []Route{{To: []string{"trunk:pbx"}, Number: Rewrite{Match: "("}}}}, "is no regular expression"},
		{"a replacement of nothing", Config{Routes: []Route{{To: []string{"trunk:pbx"}, Number: Rewrite{With: "1"}}}}, "there is nothing to replace"},
		{"a prefix", Config{Routes: []Route{{To: []string{"trunk:pbx"}, Number: Rewrite{Prefix: "x"}}}}, "nothing that is dialled"},
		{"world numbers of no country", Config{Routes: []Route{{To: []string{"trunk:pbx"}, Number: Rewrite{E164: true}}}}, "which country"},
		{"a limit", Config{Routes: []Route{{To: []string{"visit"}, Limit: Limited{By: "moon", Full: "wait"}}}}, `calls are not counted by "moon"`},
		{"a refusal beside a target", Config{Routes: []Route{{To: []string{"visit", "refuse:486"}}}}, "a route that refuses leads nowhere else"},
		{"a refusal that rings", Config{Routes: []Route{{To: []string{"visit & refuse:486"}}}}, "a refusal beside a target"},
		{"a weight", Config{Routes: []Route{{To: []string{"trunk:pbx*0 | visit"}}}}, `"0" is no weight`},
		{"together and by weight", Config{Routes: []Route{{To: []string{"trunk:pbx & visit | visit"}}}}, `no trunk is named "pbx & visit"`},
		{"a recording that there is not", Config{Routes: []Route{{To: []string{"announce:night"}}}}, `no announcement is named "night"`},
		{"secrecy by halves", Config{Routes: []Route{{To: []string{"visit"}, SRTP: "optional"}}}, `"optional" is no term for SRTP`},
		{"a line for nothing", Config{Routes: []Route{{To: []string{"visit"}, Width: 20}}}, `none of the route's codecs fits into 20 kbit/s`},
		{"codecs that do not fit", Config{Routes: []Route{{To: []string{"visit"}, Width: 40, Codecs: []string{"PCMA"}}}}, `none of the route's codecs fits into 40 kbit/s`},
		{"half a picture", Config{Routes: []Route{{To: []string{"visit"}, Video: "small"}}}, `"small" is no term for video`},
		{"recorded by chance", Config{Routes: []Route{{To: []string{"visit"}, Record: "maybe"}}}, `"maybe" is no term for recording`},
		{"digits by post", Config{Routes: []Route{{To: []string{"visit"}, DTMF: "post"}}}, `"post" is no way to send digits`},
		{"a header that is ours", Config{Routes: []Route{{To: []string{"visit"}, Headers: map[string]string{"Via": "x"}}}}, `"Via" is no header that can be set`},
		{"a header of two lines", Config{Routes: []Route{{To: []string{"visit"}, Headers: map[string]string{"X-Ward": "a\r\nVia: b"}}}}, "more than one line"},
		{"emergency calls to nobody", Config{Emergency: Emergency{To: []string{"trunk:moon/112"}}}, `no trunk is named "moon"`},
	} {
		_, err := Compile(c.config, Names{Trunks: []string{"pbx"}, Codecs: []string{"opus", "PCMA"}, Fits: fits, Header: func(name string) bool { return name != "Via" }, Read: func(f string) ([]byte, error) {
			if text, ok := files[f]; ok {
				return []byte(text), nil
			}
			return nil, errors.New("no such file: " + f)
		}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	p := region(t, func(c *Config) {
		c.Routes = []Route{
			{Name: "a", When: `call.source == "pbx"`, To: []string{"visit"}},
			{Name: "b", When: `call.to.user == "5" && call.source == "pbx"`, To: []string{"visit"}},
			{Name: "c", When: `call.to.user == "112"`, To: []string{"visit"}},
			{Name: "d", When: `call.source == "city" && call.at.weekend`, To: []string{"trunk:city"}},
			{Name: "there", When: `call.source == "city" && call.to.user.startsWith("21")`, To: []string{"trunk:pbx"}},
			{Name: "back", When: `call.source == "pbx" && call.to.user.matches("^2[0-9]+$") && call.at.hour == 3`, To: []string{"trunk:city"}},
			{Name: "elsewhere", When: `call.source == "pbx" && call.to.user.startsWith("9") && call.at.hour == 4`, To: []string{"trunk:city"}},
			{Name: "full", When: `call.source == "room"`, To: []string{"visit"}, Limit: Limited{Calls: 1, Full: "next"}},
			{Name: "e", When: `call.source == "room"`, To: []string{"visit"}},
			{Name: "f", To: []string{"visit"}},
			{Name: "g", When: `call.at.hour == 1`, To: []string{"visit"}},
		}
	})
	want := []string{`"b" never matches: "a"`, `"c" is about 112`, `"d" sends calls of trunk city back`, `"back" never matches: "a"`, `a number may go round between trunks pbx and city, by "there" and "back"`, `"elsewhere" never matches: "a"`, `"g" never matches: "f"`, "sets.cardiology: no condition", "calendars.holidays: no condition"}
	got := p.Warnings()
	if len(got) != len(want) {
		t.Fatalf("%d warnings:\n%s", len(got), strings.Join(got, "\n"))
	}
	for i, w := range want {
		if !strings.Contains(got[i], w) {
			t.Errorf("%s, want %s", got[i], w)
		}
	}
}

func TestAConditionIsBounded(t *testing.T) {
	p := region(t, func(c *Config) {
		long := "[1,2,3,4,5,6,7,8,9]"
		c.Routes = []Route{{Name: "slow", When: fmt.Sprintf("%[1]s.all(a, %[1]s.all(b, %[1]s.all(c, %[1]s.all(d, %[1]s.all(e, %[1]s.all(f, a + b + c + d + e + f > int(call.to.user))))))", long) + ")", To: []string{"visit"}}, {Name: "next", To: []string{"visit"}}}
	})
	began := time.Now()
	d := p.Decide(Ask("pbx", "1", "0"))
	if d.Route != "next" || len(d.Failed) != 1 || time.Since(began) > 5*time.Second {
		t.Errorf("%+v after %v", d, time.Since(began))
	}
}

// crowd is a thousand routes as a hospital might have them.
func crowd(t testing.TB) *Policy {
	t.Helper()
	return region(t, func(c *Config) {
		c.Routes = nil
		for i := range 1000 {
			r := Route{Name: fmt.Sprintf("r%d", i), To: []string{"visit"}}
			switch i % 5 {
			case 0:
				r.When = fmt.Sprintf(`call.source == "pbx" && call.to.user.startsWith("2%03d") && call.at.hour < 20`, i)
			case 1:
				r.When = fmt.Sprintf(`call.source == "pbx" && call.from.user == "3%03d" && call.to.user.matches("^7[0-9]{6}$")`, i)
			case 2:
				r.When = fmt.Sprintf(`call.to.user in ["4%03d", "5%03d"]`, i, i)
			case 3:
				r.When = fmt.Sprintf(`call.source == "browser" && call.to.user == "6%03d" && !call.at.weekend`, i)
			case 4:
				r.When = fmt.Sprintf(`call.to.user.matches("^8%03d[0-9]*$") && call.source == "city"`, i)
			}
			c.Routes = append(c.Routes, r)
		}
		c.Routes = append(c.Routes, Route{Name: "rest", When: `call.source == "pbx"`, To: []string{"trunk:city"}})
	})
}

// linear is Decide without the index.
func (p *Policy) linear(q Query) string {
	f := p.see(&q)
	for i := range p.routes {
		if ok, _ := p.routes[i].holds(f); ok {
			return p.routes[i].Name
		}
	}
	return ""
}

func TestTheIndexChangesNoDecision(t *testing.T) {
	for _, p := range []*Policy{crowd(t), region(t, nil)} {
		dice := rand.New(rand.NewPCG(1, 2))
		for range 500 {
			to := fmt.Sprintf("%d%03d%s", 2+dice.IntN(7), dice.IntN(1000), []string{"", "", "00", "123"}[dice.IntN(4)])
			q := Ask([]string{"pbx", "city", "browser", "room"}[dice.IntN(4)], fmt.Sprintf("3%03d", dice.IntN(1000)), to)
			q.At = time.Unix(int64(dice.IntN(1_800_000_000)), 0)
			if got, want := p.Decide(q).Route, p.linear(q); got != want {
				t.Fatalf("%+v: %q, want %q", q, got, want)
			}
		}
	}
}

func TestFewConditionsAreEvaluatedOfAThousand(t *testing.T) {
	p := crowd(t)
	for _, q := range []Query{Ask("pbx", "3001", "7123456"), Ask("pbx", "1", "2995123"), Ask("browser", "", "6003"), Ask("city", "1", "8004"), Ask("room", "1", "9")} {
		n := 0
		for i := range p.index.find(&q.Call) {
			if p.routes[i].hints.allow(&q.Call) {
				n++
			}
		}
		if n > 20 {
			t.Errorf("%d conditions for %+v", n, q.Call)
		}
	}
}

func TestUncovered(t *testing.T) {
	p := region(t, nil)
	if got := p.Uncovered(map[string]bool{"to the city": true}); len(got) != 6 || slices.Contains(got, "to the city") {
		t.Error(got)
	}
}

func BenchmarkDecideOfAThousand(b *testing.B) {
	p := crowd(b)
	q := Ask("pbx", "3996", "7123456")
	q.At = time.Now()
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(q)
	}
}

// The same call, by looking at every route: what the index saves.
func BenchmarkDecideOfAThousandLinearly(b *testing.B) {
	p := crowd(b)
	q := Ask("pbx", "3996", "7123456")
	q.At = time.Now()
	b.ReportAllocs()
	for b.Loop() {
		p.linear(q)
	}
}

func BenchmarkCompileAThousand(b *testing.B) {
	for b.Loop() {
		crowd(b)
	}
}

// fits is media.Fits, roughly.
func fits(codec string, kbit int) bool { return kbit >= 87 || codec == "opus" && kbit >= 29 }

func TestTermsAreTheRoutes(t *testing.T) {
	p, err := Compile(Config{Routes: []Route{
		{Name: "wide", When: `"G722" in call.codecs && call.encrypted`, To: []string{"announce:wait", "trunk:pbx/1"}, SRTP: "required", DTMF: "info", Record: "forbidden", Width: 40, Video: "off", Headers: map[string]string{"X-Ward": "cardiology"}},
		{Name: "other", To: []string{"trunk:pbx/2"}},
	}}, Names{Trunks: []string{"pbx"}, Announcements: []string{"wait"}, Codecs: []string{"opus"}, Fits: fits})
	if err != nil {
		t.Fatal(err)
	}
	q := Ask("pbx", "1", "2")
	q.Call.Codecs, q.Call.Encrypted = []string{"G722", "PCMA"}, true
	d := p.Decide(q)
	if len(d.Groups) != 2 || d.Groups[0][0].String() != "announce:wait" {
		t.Fatalf("%+v", d.Groups)
	}
	if to := d.Groups[1][0]; !to.Session.Secret || to.Session.Recording != sdp.DontRecord || to.Session.Bandwidth != 40 || !to.Session.Blind || to.DTMF != "info" || to.Headers["X-Ward"] != "cardiology" {
		t.Errorf("%+v", to)
	}
	x := Expectation{Source: "pbx", From: "1", To: "2", Codecs: q.Call.Codecs, Encrypted: true, Route: "wide", Video: "off", Record: "demanded"}
	if _, differs, err := x.Meet(p); err != nil || !slices.Equal(differs, []Difference{{"recording", "demanded", "forbidden"}}) {
		t.Errorf("differs: %v, %v", differs, err)
	}
	q.Call.Encrypted = false
	if d := p.Decide(q); d.Route != "other" || d.Groups[0][0].Session.Secret {
		t.Errorf("%+v", d)
	}
}
