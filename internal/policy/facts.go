package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
	"github.com/nyaruka/phonenumbers"
)

// Moment is what an expression sees as "call.at", in the site's zone.
type Moment struct {
	Date    string `cel:"date"`    // 2026-12-25
	Clock   string `cel:"clock"`   // 18:05
	Hour    int    `cel:"hour"`    // 0 to 23
	Minute  int    `cel:"minute"`  // 0 to 59
	Weekday string `cel:"weekday"` // mon, tue, wed, thu, fri, sat, sun
	Weekend bool   `cel:"weekend"` // sat and sun
}

func moment(t time.Time) Moment {
	day := strings.ToLower(t.Weekday().String()[:3])
	return Moment{Date: t.Format("2006-01-02"), Clock: t.Format("15:04"), Hour: t.Hour(), Minute: t.Minute(), Weekday: day, Weekend: day == "sat" || day == "sun"}
}

// Facts is what a condition may speak of, for messages and for docs/policy.md.
const Facts = "call.source, call.trunk, call.from and call.to (user, host, display, e164), call.at (hour, minute, clock, date, weekday, weekend, on(calendars.NAME)), call.codecs, call.encrypted, call.label(NAME), call.header(NAME), sets.NAME, trunks.NAME (up, calls)"

// place finds the zone and the country.
func (c *compiler) place() {
	c.p.zone = time.Local
	if c.TimeZone != "" {
		zone, err := time.LoadLocation(c.TimeZone)
		if err != nil {
			c.fault(fmt.Sprintf("no time zone is named %q", c.TimeZone), "write one of the tz database, as in Europe/Lisbon", "time_zone")
		} else {
			c.p.zone = zone
		}
	}
	if c.Country != "" && phonenumbers.GetCountryCodeForRegion(c.Country) == 0 {
		c.fault(fmt.Sprintf("%q is no country with numbers", c.Country), "write two capital letters, as in PT", "country")
	}
}

// facts declares what conditions may speak of; a name that is not declared is a
// fault where it is used.
func (c *compiler) facts() error {
	object := cel.ObjectType("policy.Call")
	days := cel.MapType(cel.StringType, cel.BoolType)
	options := []cel.EnvOption{
		ext.NativeTypes(reflect.TypeFor[Call](), reflect.TypeFor[Address](), reflect.TypeFor[Moment](), reflect.TypeFor[Trunk](), ext.ParseStructTags(true)),
		cel.Variable("call", object),
		cel.Function("on", cel.MemberOverload("moment_on", []*cel.Type{cel.ObjectType("policy.Moment"), days}, cel.BoolType, cel.BinaryBinding(on))),
		cel.Function("label", cel.MemberOverload("call_label", []*cel.Type{object, cel.StringType}, cel.StringType,
			cel.BinaryBinding(named(func(c *Call) map[string]string { return c.Labels }, strings.Clone)))),
		cel.Function("header", cel.MemberOverload("call_header", []*cel.Type{object, cel.StringType}, cel.StringType,
			cel.BinaryBinding(named(func(c *Call) map[string]string { return c.Headers }, strings.ToLower)))),
	}
	for name, s := range c.Sets {
		if !plain(name) {
			c.fault(fmt.Sprintf("a set cannot be named %q", name), "write a letter, then letters, digits and _", "sets", name)
			continue
		}
		options = append(options, cel.Variable("sets."+name, days))
		c.keep("sets."+name, c.members(s, "sets", name))
	}
	for name, k := range c.Calendars {
		if !plain(name) {
			c.fault(fmt.Sprintf("a calendar cannot be named %q", name), "write a letter, then letters, digits and _", "calendars", name)
			continue
		}
		options = append(options, cel.Variable("calendars."+name, days))
		c.keep("calendars."+name, c.days(k, name))
	}
	for _, name := range c.known.Trunks {
		if plain(name) {
			options = append(options, cel.Variable("trunks."+name, cel.ObjectType("policy.Trunk")))
		}
	}
	var err error
	if c.env, err = cel.NewEnv(options...); err != nil {
		return err
	}
	c.p.adapter = c.env.CELTypeAdapter()
	return nil
}

// keep makes a set a value that is looked up and not copied.
func (c *compiler) keep(name string, members []string) {
	m := make(map[string]bool, len(members))
	for _, s := range members {
		m[s] = true
	}
	c.p.values[name] = types.DefaultTypeAdapter.NativeToValue(m)
}

// plain reports whether a name may stand in an expression.
func plain(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" && (name[0] < '0' || name[0] > '9') && !slices.Contains([]string{"in", "true", "false", "null"}, name)
}

// on reports whether a moment is on one of the days of a calendar: on the date, or on
// that day of every year.
func on(at, calendar ref.Val) ref.Val {
	days, ok := calendar.(traits.Container)
	if !ok {
		return types.NewErr("no calendar")
	}
	var m Moment
	switch v := at.Value().(type) {
	case Moment:
		m = v
	case *Moment:
		m = *v
	default:
		return types.NewErr("no moment")
	}
	if days.Contains(types.String(m.Date)) == types.True {
		return types.True
	}
	return days.Contains(types.String(m.Date[len("2026-"):]))
}

// named reads one text out of those that a call carries; "": it carries none.
func named(of func(*Call) map[string]string, spell func(string) string) func(call, name ref.Val) ref.Val {
	return func(call, name ref.Val) ref.Val {
		n, ok := name.Value().(string)
		switch c := call.Value().(type) {
		case *Call:
			if ok {
				return types.String(of(c)[spell(n)])
			}
		case Call:
			if ok {
				return types.String(of(&c)[spell(n)])
			}
		}
		return types.NewErr("no call, or no name")
	}
}

// facts are one call's, as expressions ask for them.
type facts struct {
	p    *Policy
	q    *Query
	call ref.Val
}

// see makes a call's facts.
func (p *Policy) see(q *Query) *facts {
	q.Call.At = moment(q.At.In(p.zone))
	if p.e164 {
		q.Call.From.E164, q.Call.To.E164 = e164(q.Call.From.User, p.country), e164(q.Call.To.User, p.country)
	}
	return &facts{p, q, p.adapter.NativeToValue(&q.Call)}
}

// ResolveName implements cel.Activation.
func (f *facts) ResolveName(name string) (any, bool) {
	if name == "call" {
		return f.call, true
	}
	if v, ok := f.p.values[name]; ok {
		return v, true
	}
	if trunk, ok := strings.CutPrefix(name, "trunks."); ok {
		t := Trunk{Up: true}
		if f.q.Trunks != nil {
			t = f.q.Trunks(trunk)
		}
		return t, true
	}
	return nil, false
}

// Parent implements cel.Activation.
func (f *facts) Parent() cel.Activation { return nil }

// e164 writes a number as the whole world dials it; "": it is none, an extension
// say.
func e164(number, country string) string {
	n, err := phonenumbers.Parse(number, country)
	if err != nil || !phonenumbers.IsValidNumber(n) {
		return ""
	}
	return phonenumbers.Format(n, phonenumbers.E164)
}
