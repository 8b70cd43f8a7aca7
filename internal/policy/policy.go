// Package policy decides whether a call may happen, where it goes and on what
// terms. It is pure: a [Query] goes in, a [Decision] with its reasons comes out;
// no clock, no counters, no network. The command that explains a route and the
// server that takes it run the same [Policy.Decide].
package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

// Config is the routing part of the configuration file.
type Config struct {
	Emergency Emergency           `yaml:"emergency" doc:"Numbers that are matched before every route."`
	TimeZone  string              `yaml:"time_zone" doc:"The zone of call.at, Europe/Lisbon say. Empty: this machine's."`
	Country   string              `yaml:"country" doc:"Where a number without its country's is: the two letters of ISO 3166, PT say. call.from.e164, call.to.e164 and number: {e164: true} want it."`
	Sets      map[string]Set      `yaml:"sets" doc:"Lists by name: call.to.user in sets.cardiology." example:"cardiology"`
	Calendars map[string]Calendar `yaml:"calendars" doc:"Days by name: call.at.on(calendars.holidays)." example:"holidays"`
	Classes   map[string]Class    `yaml:"classes" doc:"Destinations that cost money: whoever calls there by a trunk, or has a call transferred there, must be named, and there are limits." example:"abroad"`
	Routes    []Route             `yaml:"routes" doc:"What may reach whom: the first route whose condition holds is taken."`
}

// Emergency names the numbers that no rule may stand before.
type Emergency struct {
	Numbers []string          `yaml:"numbers" doc:"Emergency numbers, as dialled."`
	To      []string          `yaml:"to" doc:"Where a telephone's call to one goes, as in routes; no limit holds it up. Empty: it is refused. A patient's page never gets there: its patient is told to use a telephone."`
	Text    map[string]string `yaml:"text" doc:"What a patient whose link leads to one is told, by language. Without: to call it from a telephone."`
}

// Route is one rule.
type Route struct {
	Name    string            `yaml:"name" doc:"A name for people; it stands in logs, records and metrics." example:"phones reach patients"`
	When    string            `yaml:"when" doc:"A CEL expression over the facts of docs/policy.md: call.source, call.to.user, call.at.hour and so on. Empty: always." example:"call.source == \"pbx\""`
	To      []string          `yaml:"to" doc:"Targets, tried in order: visit, trunk:NAME/NUMBER, trunk:NAME (the dialled number), room:NAME, room (the one whose name was dialled), announce:NAME (a recording; the next target is tried after it), refuse:CODE. Several that ring together: room:a & room:b. Several of which one is tried first, by its weight, and then the others: trunk:a*3 | trunk:b*1." example:"[visit]"`
	Number  Rewrite           `yaml:"number" doc:"How the dialled number is written for trunks that are named without one."`
	Caller  string            `yaml:"caller" doc:"The number that is shown as the caller's. Empty: its own."`
	Limit   Limited           `yaml:"limit" doc:"How many calls may take the route."`
	Codecs  []string          `yaml:"codecs" doc:"Encodings in order of preference, on both legs. PCMU or PCMA first leaves a telephone's sound untouched; opus first is best over bad networks. Empty: each side's own order." example:"[opus]"`
	SRTP    string            `yaml:"srtp" doc:"required: no telephone's sound passes in the clear, on either leg, whatever its trunk says; a caller without keys is refused with 488, a target without is passed over. Empty: as each trunk says."`
	Width   int               `yaml:"bandwidth" doc:"What sound may take of a patient's line each way, on the average, in kbit/s with all headers: encodings that want more are not used, and Opus is told what is left. Opus does with 29; G.711 and G.722 take 87. 0: what it likes." default:"0"`
	Video   string            `yaml:"video" doc:"off: the patient's page lets go of the camera when the call begins. Empty: it does not; so far its picture stays on the page."`
	Record  string            `yaml:"recording" doc:"What the telephones' side is asked, by RFC 7866: demanded or forbidden. The gateway itself records nothing. A patient whose call is said to be recorded is told so, whatever stands here. Empty: as the PBX likes."`
	DTMF    string            `yaml:"dtmf" doc:"How digits go to the targets: rfc4733, info, inband or auto. Empty: as each trunk says."`
	Headers map[string]string `yaml:"headers" doc:"Headers to set in the INVITE to a trunk or a room: {X-Ward: cardiology}." example:"{X-Ward: cardiology}"`
	Ring    time.Duration     `yaml:"ring" doc:"How long each target rings. Left out: visits.ring where a visit is a target, else 60s." default:"60s"`
	AtOnce  bool              `yaml:"at_once" doc:"A caller that asks to be answered at once (answer-after=0, as nurse calls do) is: a telephone is asked to, and a patient's page joins by itself if the microphone was allowed. Others, and all where this is false, ring." default:"false"`
	Longest time.Duration     `yaml:"longest" doc:"After this a call is ended." default:"4h"`
}

// Limited bounds the calls of a route.
type Limited struct {
	Calls     int    `yaml:"calls" doc:"At once. 0: no limit." default:"0"`
	PerMinute int    `yaml:"per_minute" doc:"Begun in a minute. 0: no limit." default:"0"`
	By        string `yaml:"by" doc:"Of whom that many: route (all together), from (each caller), to (each called number), source (each trunk)." default:"route"`
	Full      string `yaml:"full" doc:"What becomes of one too many: refuse (503 with Retry-After), or next (the next route that holds)." default:"refuse"`
}

// Address is one party.
type Address struct {
	User    string `cel:"user"`
	Host    string `cel:"host"`
	Display string `cel:"display"`
	E164    string `cel:"e164"` // +351213000123; "" where it is no such number, or no condition asks
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
	Source    string            `cel:"source"` // a trunk's name, "browser", or "room"
	Trunk     string            `cel:"trunk"`  // the trunk's name, or ""
	From      Address           `cel:"from"`
	To        Address           `cel:"to"`
	At        Moment            `cel:"at"`        // made from Query.At
	Codecs    []string          `cel:"codecs"`    // that the caller offers, as SDP names them
	Encrypted bool              `cel:"encrypted"` // the caller offers keys
	Labels    map[string]string `cel:"labels"`    // of the invitation, if a browser calls
	Headers   map[string]string `cel:"headers"`   // of the INVITE, those that the trunk may say; names in small letters
}

// Trunk is what an expression sees as trunks.NAME.
type Trunk struct {
	Up    bool `cel:"up"`
	Calls int  `cel:"calls"`
}

// Query is one call that asks to be let through.
type Query struct {
	Call   Call
	Visit  string                  // the visit that calls, if it is a browser
	At     time.Time               // when it comes
	Trunks func(name string) Trunk // what is known of a trunk; nil: that all are up
	Dice   float64                 // from 0 to below 1, which of targets with weights is first
	After  int                     // routes before this one are passed over (Decision.Next)
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

// Decision is the outcome for one call.
type Decision struct {
	Kind    Kind          `json:"decision"`
	Route   string        `json:"route,omitempty"`
	Groups  [][]Target    `json:"-"` // tried one after another; the targets of one ring together
	Status  int           `json:"status,omitempty"`
	Reason  string        `json:"reason,omitempty"`
	Ring    time.Duration `json:"-"`
	AtOnce  bool          `json:"-"`
	Longest time.Duration `json:"-"`
	Limit   Limited       `json:"-"` // to be taken before the route is
	Key     string        `json:"-"` // whose calls Limit counts
	Next    int           `json:"-"` // Query.After for another route, where there is no room
	Failed  []string      `json:"-"` // conditions that could not be evaluated, which is no match
}

// Policy is a compiled configuration. It is safe for use by many goroutines.
type Policy struct {
	emergency map[string]bool
	urgent    []group
	text      map[string]string
	classes   []Limit
	routes    []rule
	index     index
	zone      *time.Location
	country   string
	e164      bool // some condition asks for it
	values    map[string]ref.Val
	adapter   types.Adapter
	warnings  []string
}

type rule struct {
	Route
	program cel.Program // nil: always
	parts   []part      // what the condition is made of, all of which must hold
	hints   hints
	groups  []group
	rewrite rewriter
	refuse  int
	ast     *cel.Ast
	env     *cel.Env
}

// Text is what a patient is told who is led to an emergency number, by language.
func (p *Policy) Text() map[string]string { return p.text }

// Warnings are what is no fault and yet seldom meant.
func (p *Policy) Warnings() []string { return p.warnings }

// Fault is one thing wrong with a configuration, at a place in it such as
// routes[2].when.
type Fault struct {
	Path    []any // map keys and list indices
	Offset  int   // bytes into the value where the fault lies
	What    string
	Instead string
}

func (f *Fault) Error() string { return f.What }

// Names are what a configuration may refer to, and how its files are read.
type Names struct {
	Trunks, Rooms, Codecs, Announcements []string
	Fits                                 func(codec string, kbit int) bool // whether an encoding can do with so many; nil: all
	Header                               func(name string) bool            // whether a route may set it; nil: any
	Read                                 func(file string) ([]byte, error) // nil: there are no files
}

// compiler is one configuration on its way to a Policy.
type compiler struct {
	Config
	known  Names
	env    *cel.Env
	p      *Policy
	faults []error
}

func (c *compiler) fault(what, instead string, path ...any) {
	c.faults = append(c.faults, &Fault{Path: path, What: what, Instead: instead})
}

// Compile checks and compiles a configuration. Every fault is reported, each as a *Fault joined into the error.
func Compile(cfg Config, known Names) (*Policy, error) {
	c := &compiler{Config: cfg, known: known, p: &Policy{emergency: map[string]bool{}, text: cfg.Emergency.Text, country: cfg.Country, values: map[string]ref.Val{}}}
	p := c.p
	c.place()
	if err := c.facts(); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	for _, n := range cfg.Emergency.Numbers {
		p.emergency[n] = true
	}
	for k, s := range cfg.Emergency.To {
		if g, refuse := c.target(s, "emergency", "to", k); refuse == 0 && len(g.targets) > 0 {
			p.urgent = append(p.urgent, g)
		}
	}
	p.classes = compileClasses(cfg.Classes, known.Trunks, c.fault)
	names := map[string]bool{}
	for i, r := range cfg.Routes {
		if r.Name == "" {
			r.Name = fmt.Sprintf("route %d", i+1)
		}
		if names[r.Name] {
			c.fault(fmt.Sprintf("a second route is named %q", r.Name), "give each route a name of its own", "routes", i, "name")
		}
		names[r.Name] = true
		p.routes = append(p.routes, c.route(i, r))
	}
	if len(c.faults) > 0 {
		return nil, errors.Join(c.faults...)
	}
	p.index = makeIndex(p.routes)
	c.warn()
	return p, nil
}

// route compiles one rule.
func (c *compiler) route(i int, r Route) rule {
	if r.Ring == 0 {
		r.Ring = 60 * time.Second
	}
	if r.Longest == 0 {
		r.Longest = 4 * time.Hour
	}
	for k, codec := range r.Codecs {
		if !slices.ContainsFunc(c.known.Codecs, func(n string) bool { return strings.EqualFold(n, codec) }) {
			c.fault(fmt.Sprintf("no codec is named %q", codec), "write one of "+strings.Join(c.known.Codecs, ", "), "routes", i, "codecs", k)
		}
	}
	out := rule{Route: r}
	c.condition(i, &out)
	out.rewrite = c.rewriter(r.Number, "routes", i, "number")
	c.limit(i, r.Limit)
	c.terms(i, r)
	if len(r.To) == 0 {
		c.fault("the route leads nowhere", "name a target: to: [visit] or to: [trunk:NAME/NUMBER]", "routes", i)
	}
	for k, s := range r.To {
		g, refuse := c.target(s, "routes", i, "to", k)
		switch {
		case refuse > 0 && len(r.To) > 1:
			c.fault("a route that refuses leads nowhere else", "leave refuse or the others out", "routes", i, "to", k)
		case refuse > 0:
			out.refuse = refuse
		case len(g.targets) > 0:
			for n := range g.targets {
				g.targets[n].Terms = Terms{Session: r.session(), DTMF: r.DTMF, Headers: r.Headers}
			}
			out.groups = append(out.groups, g)
		}
	}
	return out
}

// wishes are the words for recording, and recordings what they are.
var (
	wishes     = map[string]sdp.Recording{"": "", "demanded": sdp.Record, "forbidden": sdp.DontRecord}
	recordings = map[sdp.Recording]string{sdp.Record: "demanded", sdp.DontRecord: "forbidden"}
)

// session is what a route wants of sound.
func (r Route) session() sdp.Terms {
	return sdp.Terms{Codecs: r.Codecs, Secret: r.SRTP == "required", Recording: wishes[r.Record], Bandwidth: r.Width, Blind: r.Video == "off"}
}

func (c *compiler) terms(i int, r Route) {
	if r.SRTP != "" && r.SRTP != "required" {
		c.fault(fmt.Sprintf("%q is no term for SRTP", r.SRTP), "write required, or leave it out", "routes", i, "srtp")
	}
	may := r.Codecs
	if len(may) == 0 {
		may = c.known.Codecs
	}
	if r.Width != 0 && !slices.ContainsFunc(may, func(name string) bool { return r.Width > 0 && c.known.Fits(name, r.Width) }) {
		c.fault(fmt.Sprintf("none of the route's codecs fits into %d kbit/s", r.Width), "write more, or name opus among them, which wants least", "routes", i, "bandwidth")
	}
	if !slices.Contains([]string{"", "on", "off"}, r.Video) {
		c.fault(fmt.Sprintf("%q is no term for video", r.Video), "write on or off", "routes", i, "video")
	}
	if _, ok := wishes[r.Record]; !ok {
		c.fault(fmt.Sprintf("%q is no term for recording", r.Record), "write demanded or forbidden, or leave it out", "routes", i, "recording")
	}
	if !slices.Contains([]string{"", "rfc4733", "info", "inband", "auto"}, r.DTMF) {
		c.fault(fmt.Sprintf("%q is no way to send digits", r.DTMF), "write rfc4733, info, inband or auto", "routes", i, "dtmf")
	}
	for name, v := range r.Headers {
		if c.known.Header != nil && !c.known.Header(name) {
			c.fault(fmt.Sprintf("%q is no header that can be set", name), "name one that belongs to no dialog: User-to-User, X-...", "routes", i, "headers", name)
		}
		if v == "" || strings.ContainsFunc(v, unicode.IsControl) {
			c.fault("a header without a value, or with more than one line", "write its value", "routes", i, "headers", name)
		}
	}
}

func (c *compiler) limit(i int, l Limited) {
	if l.Calls < 0 || l.PerMinute < 0 {
		c.fault("a limit below zero", "write how many calls may be, or 0 for no limit", "routes", i, "limit")
	}
	if !slices.Contains([]string{"", "route", "from", "to", "source"}, l.By) {
		c.fault(fmt.Sprintf("calls are not counted by %q", l.By), "write route, from, to or source", "routes", i, "limit", "by")
	}
	if !slices.Contains([]string{"", "refuse", "next"}, l.Full) {
		c.fault(fmt.Sprintf("%q is not what becomes of a call", l.Full), "write refuse or next", "routes", i, "limit", "full")
	}
}

// Urgent reports whether a call is to an emergency number.
func (p *Policy) Urgent(q Query) bool { return q.Call.To.User != "" && p.emergency[q.Call.To.User] }

// Decide says what happens to a call.
func (p *Policy) Decide(q Query) Decision {
	if p.Urgent(q) {
		return p.emergencyCall(&q)
	}
	f := p.see(&q)
	var failed []string
	for i := range p.index.find(&q.Call) {
		r := &p.routes[i]
		if i < q.After || !r.hints.allow(&q.Call) {
			continue
		}
		matched, err := r.holds(f)
		if err != nil {
			failed = append(failed, r.Name+": "+err.Error())
		}
		if matched {
			d := p.outcome(i, &q)
			d.Failed = failed
			return d
		}
	}
	return Decision{Kind: Unmatched, Status: 404, Reason: "no route matches", Failed: failed}
}

// emergencyCall leads a telephone where the file says, and a patient nowhere: a
// browser has no place that help could be sent to.
func (p *Policy) emergencyCall(q *Query) Decision {
	d := Decision{Kind: IsUrgent, Status: 403, Reason: "an emergency number: use a telephone", Ring: 3 * time.Minute, Longest: 24 * time.Hour}
	if q.Call.Source == "browser" || len(p.urgent) == 0 {
		return d
	}
	d.Status, d.Reason = 0, ""
	d.Groups = address(p.urgent, q, rewriter{}, "")
	return d
}

// outcome is what the i-th route makes of a call.
func (p *Policy) outcome(i int, q *Query) Decision {
	r := &p.routes[i]
	d := Decision{Kind: Routed, Route: r.Name, Ring: r.Ring, Longest: r.Longest, AtOnce: r.AtOnce, Limit: r.Limit, Next: i + 1}
	if len(r.groups) == 0 {
		d.Kind, d.Status, d.Reason = Refused, r.refuse, "refused by route "+r.Name
		return d
	}
	switch r.Limit.By {
	case "from":
		d.Key = q.Call.From.User
	case "to":
		d.Key = q.Call.To.User
	case "source":
		d.Key = q.Call.Source
	}
	d.Groups = address(r.groups, q, r.rewrite, r.Caller)
	return d
}

// holds evaluates the condition.
func (r *rule) holds(f *facts) (bool, error) {
	if r.program == nil {
		return true, nil
	}
	v, _, err := r.program.Eval(f)
	if err != nil {
		return false, err
	}
	ok, _ := v.Value().(bool)
	return ok, nil
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
