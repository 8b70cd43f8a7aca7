package policy

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"
	"cel.dev/cel-go/parser"
)

// Step is one rule tried.
type Step struct {
	Route   string `json:"route"`
	Matched bool   `json:"matched"`
	Why     string `json:"why"`
}

// Explanation is a decision as it is told to people and programs.
type Explanation struct {
	Decision
	Names  []string `json:"targets"`
	Caller string   `json:"caller,omitempty"`       // the number shown, if it is not the caller's own
	At     string   `json:"at,omitempty"`           // when, in the site's zone
	Ring   string   `json:"ring,omitempty"`         // how long each target rings
	Long   string   `json:"longest,omitempty"`      // after which it is ended
	Codecs []string `json:"codecs,omitempty"`       // in order of preference
	Width  string   `json:"bandwidth,omitempty"`    // that sound may take
	Video  string   `json:"video,omitempty"`        // off: no camera
	Record string   `json:"recording,omitempty"`    // demanded or forbidden
	Room   string   `json:"limit,omitempty"`        // how many may take the route
	Trace  []Step   `json:"trace"`                  // every rule tried
	Errors []string `json:"errors,omitempty"`       // conditions that could not be evaluated
	Texts  any      `json:"patient_text,omitempty"` // what a patient is told, by language
}

// Explain decides as Decide does, and says why: every rule in its order up to the one
// that is taken.
func (p *Policy) Explain(q Query) Explanation {
	d := p.Decide(q)
	e := Explanation{Decision: d, Names: names(d.Groups), Trace: []Step{}, Errors: d.Failed, At: q.At.In(p.zone).Format("2006-01-02 15:04 Mon MST")}
	switch d.Kind {
	case IsUrgent:
		e.Trace = append(e.Trace, Step{"emergency", true, "the number is one of emergency.numbers"})
		if len(p.text) > 0 && q.Call.Source == "browser" {
			e.Texts = p.text
		}
		return e
	case Routed:
		e.terms(&d, &q)
	}
	f := p.see(&q)
	for i := q.After; i < len(p.routes); i++ {
		r := &p.routes[i]
		matched, why := r.explain(f)
		e.Trace = append(e.Trace, Step{r.Name, matched, why})
		if matched {
			break
		}
	}
	return e
}

func (e *Explanation) terms(d *Decision, q *Query) {
	e.Ring, e.Long = d.Ring.String(), d.Longest.String()
	if t := d.Groups[0][0]; t.From.User != q.Call.From.User {
		e.Caller = t.From.User
	}
	session := d.Groups[0][0].Session
	e.Codecs, e.Record = session.Codecs, recordings[session.Recording]
	if session.Bandwidth > 0 {
		e.Width = fmt.Sprintf("%d kbit/s each way on the patient's line", session.Bandwidth)
	}
	if session.Blind {
		e.Video = "off"
	}
	if l := d.Limit; l.Calls > 0 || l.PerMinute > 0 {
		var parts []string
		if l.Calls > 0 {
			parts = append(parts, fmt.Sprintf("%d at once", l.Calls))
		}
		if l.PerMinute > 0 {
			parts = append(parts, fmt.Sprintf("%d a minute", l.PerMinute))
		}
		by := map[string]string{"from": "each caller", "to": "each number", "source": "each source"}[l.By]
		if by == "" {
			by = "all together"
		}
		then := "the others are refused"
		if l.Full == "next" {
			then = "the others take the next route"
		}
		e.Room = strings.Join(parts, " and ") + ", " + by + "; " + then
	}
}

// names are targets as they are told; those that ring together with & between them.
func names(groups [][]Target) []string {
	out := []string{}
	for _, g := range groups {
		var all []string
		for _, t := range g {
			all = append(all, t.String())
		}
		out = append(out, strings.Join(all, " & "))
	}
	return out
}

// explain evaluates a condition with an eye on its parts.
func (r *rule) explain(f *facts) (matched bool, why string) {
	if r.ast == nil {
		return true, "it has no condition"
	}
	program, err := r.env.Program(r.ast, cel.CostLimit(costLimit), cel.EvalOptions(cel.OptTrackState, cel.OptExhaustiveEval))
	if err != nil {
		return false, err.Error()
	}
	v, details, err := program.Eval(f)
	switch {
	case err != nil && details == nil:
		return false, "the condition could not be evaluated: " + err.Error()
	case err == nil && v == types.True:
		return true, "the condition holds: " + r.said(details.State(), r.parts)
	}
	for _, p := range r.parts {
		got, ok := details.State().Value(p.expr.ID())
		switch {
		case ok && types.IsError(got):
			return false, fmt.Sprintf("%s could not be evaluated: %v", p.text, got)
		case ok && got == types.False:
			why = p.text + " is false"
			if said := r.said(details.State(), []part{p}); said != "" {
				why += ": " + said
			}
			return false, why
		}
	}
	return false, "the condition is false"
}

// said lists the facts that some parts speak of, with what they were.
func (r *rule) said(state interpreter.EvalState, parts []part) string {
	var out []string
	var walk func(ast.Expr)
	note := func(what string, e ast.Expr) {
		v, ok := state.Value(e.ID())
		if !ok || types.IsError(v) {
			return
		}
		s := fmt.Sprintf("%s is %v", what, v.Value())
		if text, ok := v.Value().(string); ok {
			s = fmt.Sprintf("%s is %q", what, text)
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	walk = func(e ast.Expr) {
		if p := path(e); p != "" {
			if strings.HasPrefix(p, "call.") || strings.HasPrefix(p, "trunks.") {
				note(p, e)
			}
			return
		}
		if e.Kind() != ast.CallKind {
			return
		}
		c := e.AsCall()
		if c.IsMemberFunction() && path(c.Target()) == "call" || c.FunctionName() == "on" {
			if text, err := parser.Unparse(e, r.ast.NativeRep().SourceInfo()); err == nil {
				note(text, e)
				return
			}
		}
		if c.IsMemberFunction() {
			walk(c.Target())
		}
		for _, a := range c.Args() {
			walk(a)
		}
	}
	for _, p := range parts {
		walk(p.expr)
	}
	return strings.Join(out, ", ")
}

// Ask is the call that a command describes by its addresses.
func Ask(source, from, to string) Query {
	q := Query{Call: Call{Source: source, From: ParseAddress(from), To: ParseAddress(to)}}
	if source != "browser" && source != "room" {
		q.Call.Trunk = source
	}
	return q
}
