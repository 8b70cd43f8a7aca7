// Package policy decides whether a call may happen, where it goes and on what
// terms. It is pure: a [Query] goes in, a [Decision] with its reasons comes out;
// no clock, no counters, no network. The command that explains a route and the
// server that takes it run the same [Policy.Decide].
package policy

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
)

// Config is the routing part of the configuration file.
type Config struct {
	Emergency Emergency        `yaml:"emergency" doc:"Numbers that are matched before every route."`
	Classes   map[string]Class `yaml:"classes" doc:"Destinations that cost money: whoever calls there by a trunk, or has a call transferred there, must be named, and there are limits." example:"abroad"`
	Routes    []Route          `yaml:"routes" doc:"What may reach whom: the first route whose condition holds is taken."`
}

// Emergency names the numbers that no rule may stand before.
type Emergency struct {
	Numbers []string          `yaml:"numbers" doc:"Emergency numbers, as dialled."`
	Text    map[string]string `yaml:"text" doc:"What a patient whose link leads to one is to be told, by language. Not shown yet: the page says that the call was refused."`
}

// Route is one rule.
type Route struct {
	Name    string        `yaml:"name" doc:"A name for people; it stands in logs, records and metrics." example:"phones reach patients"`
	When    string        `yaml:"when" doc:"A CEL expression over call.source, call.trunk, call.from and call.to (user, host, display). Empty: always." example:"call.source == \"pbx\""`
	To      []string      `yaml:"to" doc:"Targets, tried in order: visit, trunk:NAME/NUMBER, trunk:NAME (the dialled number), room:NAME, room (the one whose name was dialled), refuse:CODE." example:"[visit]"`
	Codecs  []string      `yaml:"codecs" doc:"Encodings in order of preference, on both legs. PCMU or PCMA first leaves a telephone's sound untouched; opus first is best over bad networks. Empty: each side's own order." example:"[opus]"`
	Ring    time.Duration `yaml:"ring" doc:"How long each target rings. Left out: visits.ring where a visit is a target, else 60s." default:"60s"`
	AtOnce  bool          `yaml:"at_once" doc:"A caller that asks to be answered at once (answer-after=0, as nurse calls do) is: a telephone is asked to, and a patient's page joins by itself if the microphone was allowed. Others, and all where this is false, ring." default:"false"`
	Longest time.Duration `yaml:"longest" doc:"After this a call is ended." default:"4h"`
}

// Address is one party.
type Address struct {
	User    string `cel:"user"`
	Host    string `cel:"host"`
	Display string `cel:"display"`
}

// URI renders the address as a SIP URI.
func (a Address) URI() string {
	if a.User == "" {
		return "sip:" + a.Host
	}
	return "sip:" + a.User + "@" + a.Host
}

// Call is what an expression sees as "call".
type Call struct {
	Source string  `cel:"source"` // a trunk's name, "browser", or "room"
	Trunk  string  `cel:"trunk"`  // the trunk's name, or ""
	From   Address `cel:"from"`
	To     Address `cel:"to"`
}

// Query is one call that asks to be let through.
type Query struct {
	Call  Call
	Visit string // the visit that calls, if it is a browser
}

// Kind tells decisions apart.
type Kind string

// The decisions.
const (
	Routed    Kind = "route"
	Refused   Kind = "refuse"
	IsUrgent  Kind = "emergency"
	Unmatched Kind = "none"
)

// Target is one place a call may go.
type Target struct {
	Kind   string // "visit", "trunk", "room"; "": whatever the policy says of Number
	Name   string // the trunk or room; of a target without a kind, who asks for it
	Number string // the number to dial there; "" on a visit: the dial code in To
	Codecs []string
	From   Address
	To     Address

	Way      int    // which of the trunk's addresses, from 1 on; 0: not chosen
	Replaces string // the dialog there whose place the new one takes (RFC 3891); "": none
}

func (t Target) String() string {
	switch {
	case t.Kind == "visit":
		return "visit"
	case t.Number == "":
		return t.Kind + ":" + t.Name
	}
	return t.Kind + ":" + t.Name + "/" + t.Number
}

// Step is one rule tried.
type Step struct {
	Route   string `json:"route"`
	Matched bool   `json:"matched"`
	Why     string `json:"why"`
}

// Decision is the outcome for one call.
type Decision struct {
	Kind    Kind          `json:"decision"`
	Route   string        `json:"route,omitempty"`
	Targets []Target      `json:"-"`
	Status  int           `json:"status,omitempty"`
	Reason  string        `json:"reason,omitempty"`
	Ring    time.Duration `json:"-"`
	AtOnce  bool          `json:"-"`
	Longest time.Duration `json:"-"`
	Trace   []Step        `json:"trace"`
}

// Policy is a compiled configuration. It is safe for use by many goroutines.
type Policy struct {
	emergency []string
	classes   []Limit
	routes    []rule
}

type rule struct {
	Route
	program cel.Program
	targets []Target
	refuse  int
}

// Fault is one thing wrong with a configuration, at a place in it such as
// routes[2].when.
type Fault struct {
	Path    []any // map keys and list indices
	Offset  int   // bytes into the value where the fault lies
	What    string
	Instead string
}

func (f *Fault) Error() string { return f.What }

// costLimit bounds one evaluation (CEL cost units): a thousand times what a
// realistic condition takes.
const costLimit = 100_000

// Names are what a configuration may refer to.
type Names struct{ Trunks, Rooms, Codecs []string }

// Compile checks and compiles a configuration. Every fault is reported, each as a *Fault joined into the error.
func Compile(c Config, known Names) (*Policy, error) {
	env, err := cel.NewEnv(ext.NativeTypes(reflect.TypeFor[Call](), reflect.TypeFor[Address](), ext.ParseStructTags(true)),
		cel.Variable("call", cel.ObjectType("policy.Call")))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	p := &Policy{emergency: c.Emergency.Numbers}
	var faults []error
	fault := func(what, instead string, path ...any) {
		faults = append(faults, &Fault{Path: path, What: what, Instead: instead})
	}
	p.classes = compileClasses(c.Classes, known.Trunks, fault)
	names := map[string]bool{}
	for i, r := range c.Routes {
		if r.Name == "" {
			r.Name = fmt.Sprintf("route %d", i+1)
		}
		if names[r.Name] {
			fault(fmt.Sprintf("a second route is named %q", r.Name), "give each route a name of its own", "routes", i, "name")
		}
		names[r.Name] = true
		if r.Ring == 0 {
			r.Ring = 60 * time.Second
		}
		if r.Longest == 0 {
			r.Longest = 4 * time.Hour
		}
		for k, codec := range r.Codecs {
			if !slices.ContainsFunc(known.Codecs, func(n string) bool { return strings.EqualFold(n, codec) }) {
				fault(fmt.Sprintf("no codec is named %q", codec), "write one of "+strings.Join(known.Codecs, ", "), "routes", i, "codecs", k)
			}
		}
		compiled := rule{Route: r}
		if r.When != "" {
			ast, iss := env.Compile(r.When)
			switch {
			case iss.Err() != nil:
				e := iss.Errors()[0]
				faults = append(faults, &Fault{Path: []any{"routes", i, "when"}, Offset: e.Location.Column(), What: e.Message,
					Instead: "the facts are call.source, call.trunk, call.from and call.to with user, host and display"})
			case !ast.OutputType().IsExactType(cel.BoolType):
				fault("the condition is not true or false but "+ast.OutputType().String(), `compare it, as in call.source == "pbx"`, "routes", i, "when")
			default:
				if compiled.program, err = env.Program(ast, cel.CostLimit(costLimit), cel.EvalOptions(cel.OptOptimize)); err != nil {
					fault(err.Error(), "simplify the condition", "routes", i, "when")
				}
			}
		}
		if len(r.To) == 0 {
			fault("the route leads nowhere", "name a target: to: [visit] or to: [trunk:NAME/NUMBER]", "routes", i)
		}
		for k, s := range r.To {
			t, status, what := parseTarget(s, known)
			if what != "" {
				fault(what, "write visit, trunk:NAME/NUMBER, trunk:NAME, room:NAME, room or refuse:CODE", "routes", i, "to", k)
				continue
			}
			if status > 0 {
				compiled.refuse = status
				continue
			}
			t.Codecs = r.Codecs
			compiled.targets = append(compiled.targets, t)
		}
		p.routes = append(p.routes, compiled)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return p, nil
}

func parseTarget(s string, known Names) (t Target, refuse int, fault string) {
	kind, rest, _ := strings.Cut(s, ":")
	switch kind {
	case "visit":
		if rest != "" {
			return t, 0, "a visit takes no name: the dialled code says which"
		}
		return Target{Kind: "visit"}, 0, ""
	case "trunk":
		name, number, _ := strings.Cut(rest, "/")
		if !slices.Contains(known.Trunks, name) {
			return t, 0, fmt.Sprintf("no trunk is named %q", name)
		}
		return Target{Kind: "trunk", Name: name, Number: number}, 0, ""
	case "room":
		if rest != "" && !slices.Contains(known.Rooms, rest) {
			return t, 0, fmt.Sprintf("no room is named %q", rest)
		}
		return Target{Kind: "room", Name: rest}, 0, ""
	case "refuse":
		if rest == "" {
			return t, 403, ""
		}
		if _, err := fmt.Sscanf(rest, "%d", &refuse); err != nil || refuse < 400 || refuse > 699 {
			return t, 0, fmt.Sprintf("%q is no SIP status to refuse with", rest)
		}
		return t, refuse, ""
	}
	return t, 0, fmt.Sprintf("%q is no target", s)
}

// Decide says what happens to a call.
func (p *Policy) Decide(q Query) Decision {
	if slices.Contains(p.emergency, q.Call.To.User) && q.Call.To.User != "" {
		return Decision{Kind: IsUrgent, Status: 403, Reason: "an emergency number: use a telephone",
			Trace: []Step{{Route: "emergency", Matched: true, Why: "the number is one of emergency.numbers"}}}
	}
	d := Decision{Kind: Unmatched, Status: 404, Reason: "no route matches"}
	facts := map[string]any{"call": &q.Call}
	for i := range p.routes {
		r := &p.routes[i]
		matched, why := r.holds(facts, q)
		d.Trace = append(d.Trace, Step{Route: r.Name, Matched: matched, Why: why})
		if !matched {
			continue
		}
		d.Route, d.Ring, d.Longest, d.AtOnce = r.Name, r.Ring, r.Longest, r.AtOnce
		if len(r.targets) == 0 {
			d.Kind, d.Status, d.Reason = Refused, r.refuse, "refused by route "+r.Name
			return d
		}
		d.Kind, d.Status, d.Reason = Routed, 0, ""
		for _, t := range r.targets {
			t.From, t.To = q.Call.From, q.Call.To
			switch {
			case t.Kind == "trunk" && t.Number == "":
				t.Number = q.Call.To.User
			case t.Kind == "room" && t.Name == "":
				t.Name = q.Call.To.User
			}
			d.Targets = append(d.Targets, t)
		}
		return d
	}
	return d
}

// holds evaluates the condition. An evaluation that fails is no match, and says why.
func (r *rule) holds(facts map[string]any, q Query) (bool, string) {
	if r.program == nil {
		return true, "the route has no condition"
	}
	v, _, err := r.program.Eval(facts)
	if err != nil {
		return false, "the condition could not be evaluated: " + err.Error()
	}
	if ok, _ := v.Value().(bool); ok {
		return true, "the condition holds"
	}
	return false, fmt.Sprintf("call.source is %q", q.Call.Source)
}

// Explanation is a decision as it is told to people and programs.
type Explanation struct {
	Decision
	Names []string `json:"targets"`
}

// Explain decides on a call described by its addresses: what the command and
// the API answer.
func Explain(decide func(Query) Decision, source, from, to string) Explanation {
	q := Query{Call: Call{Source: source, From: ParseAddress(from), To: ParseAddress(to)}}
	if source != "browser" && source != "room" {
		q.Call.Trunk = source
	}
	e := Explanation{Decision: decide(q), Names: []string{}}
	for _, t := range e.Targets {
		e.Names = append(e.Names, t.String())
	}
	return e
}

// ParseAddress reads a SIP URI, with or without a display name, or a bare number.
func ParseAddress(s string) Address {
	var a Address
	if open := strings.IndexByte(s, '<'); open >= 0 {
		a.Display = strings.Trim(strings.TrimSpace(s[:open]), `"`)
		s = strings.TrimSuffix(s[open+1:], ">")
	}
	s = strings.TrimPrefix(strings.TrimPrefix(s, "sips:"), "sip:")
	s, _, _ = strings.Cut(s, ";")
	if user, host, ok := strings.Cut(s, "@"); ok {
		a.User, a.Host = user, host
	} else {
		a.User = s
	}
	return a
}
