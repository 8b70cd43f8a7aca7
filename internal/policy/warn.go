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
		for _, x := range r.passes() {
			if x.from == x.to {
				say("routes[%d]: %q sends calls of trunk %s back there with the same number, which may send them here again", i, r.Name, x.to)
			}
			for k := range i {
				other := &p.routes[k]
				if x.from != x.to && slices.Contains(other.passes(), passage{x.to, x.from}) && r.hints.meets(&other.hints) {
					say("routes[%d]: a number may go round between trunks %s and %s, by %q and %q", i, x.from, x.to, other.Name, r.Name)
				}
			}
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

// passage is a way from one trunk to another.
type passage struct{ from, to string }

// passes are the ways that a number takes by a route as it was dialled.
func (r *rule) passes() []passage {
	if r.rewrite.Rewrite != (Rewrite{}) {
		return nil
	}
	var out []passage
	for _, g := range r.groups {
		for _, t := range g.targets {
			if t.Kind != "trunk" || t.Number != "" {
				continue
			}
			for _, from := range r.hints.sources {
				out = append(out, passage{from, t.Name})
			}
		}
	}
	return out
}

// meets reports whether a number may be meant by both of two conditions.
func (h *hints) meets(other *hints) bool {
	if h.to != nil && other.to != nil && !slices.ContainsFunc(h.to, func(n string) bool { return slices.Contains(other.to, n) }) {
		return false
	}
	for _, pair := range [][2]*hints{{h, other}, {other, h}} {
		if pair[0].to != nil && !slices.ContainsFunc(pair[0].to, func(n string) bool { return strings.HasPrefix(n, pair[1].prefix) }) {
			return false
		}
	}
	return strings.HasPrefix(h.prefix, other.prefix) || strings.HasPrefix(other.prefix, h.prefix)
}
