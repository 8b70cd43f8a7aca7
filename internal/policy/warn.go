package policy

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// warn looks for what is no fault and yet seldom meant.
func (c *compiler) warn() {
	p := c.p
	say := func(format string, a ...any) { p.warnings = append(p.warnings, fmt.Sprintf(format, a...)) }
	for i := range p.routes {
		r := &p.routes[i]
		for k := range i {
			if earlier := &p.routes[k]; earlier.covers(r) {
				say("routes[%d]: %q never matches: %q, before it, takes all its calls", i, r.Name, earlier.Name)
				break
			}
		}
		for n := range p.emergency {
			if slices.Contains(r.hints.to, n) {
				say("routes[%d]: %q is about %s, an emergency number: emergency is asked before every route", i, r.Name, n)
			}
		}
		if into := r.circle(); into != "" {
			say("routes[%d]: %q sends calls of trunk %s back there with the same number, which may send them here again", i, r.Name, into)
		}
	}
	for _, kind := range []string{"sets", "calendars"} {
		var all []string
		if kind == "sets" {
			for n := range c.Sets {
				all = append(all, n)
			}
		} else {
			for n := range c.Calendars {
				all = append(all, n)
			}
		}
		sort.Strings(all)
		for _, n := range all {
			if !slices.ContainsFunc(p.routes, func(r rule) bool { return strings.Contains(r.When, kind+"."+n) }) {
				say("%s.%s: no condition asks for it", kind, n)
			}
		}
	}
}

// covers reports whether every call of a later route is taken before it gets there, as
// far as that can be told: all that this one asks is asked there, too.
func (r *rule) covers(later *rule) bool {
	if r.Limit.Full == "next" && (r.Limit.Calls > 0 || r.Limit.PerMinute > 0) {
		return false
	}
	for _, p := range r.parts {
		if !slices.ContainsFunc(later.parts, func(q part) bool { return q.text == p.text }) {
			return false
		}
	}
	return true
}

// circle is the trunk to which a route sends back what comes from it as it came; "":
// there is none.
func (r *rule) circle() string {
	if r.rewrite.Rewrite != (Rewrite{}) {
		return ""
	}
	for _, g := range r.groups {
		for _, t := range g {
			if t.Kind == "trunk" && t.Number == "" && len(r.hints.sources) > 0 && slices.Contains(r.hints.sources, t.Name) {
				return t.Name
			}
		}
	}
	return ""
}
