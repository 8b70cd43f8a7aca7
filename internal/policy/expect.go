package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Expectations are an administrator's own tests of a policy.
type Expectations struct {
	Expect []Expectation `yaml:"expect" doc:"Calls, and what is to become of them."`
}

// Expectation is one call and what is to become of it. What is left out does not
// matter.
type Expectation struct {
	Name      string            `yaml:"name" doc:"What is expected, in words."`
	Source    string            `yaml:"source" doc:"Where the call comes from: a trunk's name, browser or room."`
	From      string            `yaml:"from" doc:"The caller, as a number or a SIP URI."`
	To        string            `yaml:"to" doc:"Who is called."`
	At        string            `yaml:"at" doc:"When, in the site's zone: 2026-12-25 18:05. Empty: a Monday, 12:00."`
	Codecs    []string          `yaml:"codecs" doc:"Those that the caller offers."`
	Encrypted bool              `yaml:"encrypted" doc:"It offers keys."`
	Labels    map[string]string `yaml:"labels" doc:"Those of the invitation."`
	Headers   map[string]string `yaml:"headers" doc:"Those of the INVITE."`
	Down      []string          `yaml:"down" doc:"Trunks that are down."`
	Decision  string            `yaml:"decision" doc:"route, refuse, emergency or none."`
	Route     string            `yaml:"route" doc:"The route that is taken."`
	Targets   []string          `yaml:"targets" doc:"Where the call goes, as sipbridge route shows it."`
	Status    int               `yaml:"status" doc:"With what it is refused."`
	Caller    string            `yaml:"caller" doc:"The number that is shown as the caller's."`
	Video     string            `yaml:"video" doc:"off."`
	Record    string            `yaml:"recording" doc:"demanded or forbidden."`
}

// someMonday is when a call is expected that does not say.
var someMonday = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)

// When reads a time of an administrator's, in the policy's zone; "": fallback's day and
// clock, there.
func (p *Policy) When(s string, fallback time.Time) (time.Time, error) {
	if s == "" {
		return fallback, nil
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, p.zone); err == nil {
			return t, nil
		}
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("%q is no time; write 2026-12-25 18:05", s)
}

// Query is the call that is expected.
func (x Expectation) Query(p *Policy) (Query, error) {
	q := Ask(x.Source, x.From, x.To)
	noon := time.Date(someMonday.Year(), someMonday.Month(), someMonday.Day(), 12, 0, 0, 0, p.zone)
	var err error
	q.At, err = p.When(x.At, noon)
	q.Call.Labels, q.Call.Codecs = x.Labels, x.Codecs
	q.Call.Encrypted = x.Encrypted
	q.Call.Headers = map[string]string{}
	for k, v := range x.Headers {
		q.Call.Headers[strings.ToLower(k)] = v
	}
	q.Trunks = func(name string) Trunk { return Trunk{Up: !slices.Contains(x.Down, name)} }
	return q, err
}

// Difference is one thing that is not as expected.
type Difference struct{ What, Expected, Got string }

// Meet decides on the call and says what is not as expected.
func (x Expectation) Meet(p *Policy) (Explanation, []Difference, error) {
	q, err := x.Query(p)
	if err != nil {
		return Explanation{}, nil, err
	}
	e := p.Explain(q)
	var out []Difference
	differ := func(what, expected, got string) {
		if expected != "" && expected != got {
			out = append(out, Difference{what, expected, got})
		}
	}
	differ("decision", x.Decision, string(e.Kind))
	differ("route", x.Route, e.Route)
	if len(x.Targets) > 0 {
		differ("targets", strings.Join(x.Targets, ", "), strings.Join(e.Names, ", "))
	}
	if x.Status > 0 {
		differ("status", fmt.Sprint(x.Status), fmt.Sprint(e.Status))
	}
	differ("caller", x.Caller, e.Caller)
	differ("video", x.Video, e.Video)
	differ("recording", x.Record, e.Record)
	return e, out, nil
}

// Uncovered are the routes that none of some decisions took, in their order.
func (p *Policy) Uncovered(taken map[string]bool) []string {
	var out []string
	for _, r := range p.routes {
		if !taken[r.Name] {
			out = append(out, r.Name)
		}
	}
	return out
}
