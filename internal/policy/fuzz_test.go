package policy

import (
	"errors"
	"testing"
	"time"

	"github.com/sipbridge/sipbridge/internal/config"
)

// What an administrator's file holds crashes nothing and stalls nothing, and what
// compiles decides and explains alike.
func FuzzPolicy(f *testing.F) {
	for _, s := range []string{
		"routes: [{name: a, when: 'call.source == \"pbx\" && call.to.user.startsWith(\"7\")', to: [visit]}]",
		"sets: {s: {of: [a, b]}}\nroutes: [{when: 'call.from.user in sets.s', to: ['trunk:pbx/1 & visit', refuse:486], limit: {calls: 1, by: from, full: next}}]",
		"time_zone: Europe/Lisbon\ncountry: PT\ncalendars: {c: {of: [12-25]}}\nroutes: [{when: '!call.at.on(calendars.c) || call.to.e164 != \"\"', to: ['trunk:pbx'], number: {match: '^9(.*)$', with: '0$1', strip: 1, prefix: '+'}}]",
		"emergency: {numbers: ['112'], to: ['trunk:pbx/112'], text: {en: x}}\nclasses: {c: {numbers: '^00', from: [pbx]}}",
		"routes: [{when: 'call.label(\"x\").matches(call.header(\"y\"))', to: [visit]}, {when: 'trunks.pbx.up && trunks.pbx.calls < 3', to: [room]}]",
		"routes: [{when: '[1,2,3].all(x, [1,2,3].exists(y, x + y > int(call.to.user)))', to: [visit]}]",
	} {
		f.Add(s, "pbx", "112")
		f.Add(s, "browser", "7123456")
	}
	f.Fuzz(func(t *testing.T, file, source, number string) {
		if len(file) > 4096 {
			return
		}
		var c Config
		doc := config.Parse("f.yaml", []byte(file), &c)
		if len(doc.Faults()) > 0 {
			return
		}
		p, err := Compile(c, Names{Trunks: []string{"pbx"}, Codecs: []string{"opus"}, Read: func(string) ([]byte, error) { return nil, errors.New("no files") }})
		if err != nil {
			return
		}
		q := Ask(source, "1", number)
		q.At = time.Unix(1_790_000_000, 0)
		d, e := p.Decide(q), p.Explain(q)
		if d.Kind != e.Kind || d.Route != e.Route {
			t.Errorf("decided %s %q, explained %s %q", d.Kind, d.Route, e.Kind, e.Route)
		}
		if n := len(e.Trace); d.Kind == Routed && (n == 0 || !e.Trace[n-1].Matched || e.Trace[n-1].Route != d.Route) {
			t.Errorf("%q was taken, the trace says %+v", d.Route, e.Trace)
		}
	})
}
