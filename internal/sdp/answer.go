package sdp

import (
	"errors"
	"slices"
	"strings"
)

// ErrNothingInCommon is returned when no slot of an offer can be met; its SIP
// form is 488 (RFC 3261 §13.3.1.3).
var ErrNothingInCommon = errors.New("sdp: no media format in common")

// Answer meets an offer (RFC 3264 §6) with what this end can do. able lists,
// per kind, the formats in this end's order of preference. Each offered slot
// keeps its place; a slot of a kind that able lacks, a second slot of a kind,
// and one without a common format are refused. Payload types are the offer's.
// One codec is chosen per slot, with every telephone-event and the comfort noise
// that fit it.
//
// want gives the directions this end asks for, slot by slot; slots beyond its
// end are sendrecv.
func Answer(offer Session, able map[Kind][]Format, want Session) (Session, error) {
	answer := Session{Media: make([]Media, len(offer.Media))}
	taken := map[Kind]bool{}
	met := 0
	for i, o := range offer.Media {
		a := &answer.Media[i]
		a.Kind, a.Content, a.Label = o.Kind, o.Content, o.Label
		local := able[o.Kind]
		if o.Refused || taken[o.Kind] || len(local) == 0 {
			a.Refused = true
			continue
		}
		a.Formats = choose(o.Formats, local)
		if len(a.Formats) == 0 {
			a.Refused = true
			continue
		}
		taken[o.Kind] = true
		met++
		mine := SendRecv
		if i < len(want.Media) {
			mine = want.Media[i].Direction
		}
		a.Direction = o.Direction.Reverse().And(mine)
		a.PTime = o.PTime
		a.MaxPTime = o.MaxPTime
	}
	if met == 0 {
		return answer, ErrNothingInCommon
	}
	return answer, nil
}

// choose takes the first of local that the offer has, then the events that
// share its clock, or the 8000 Hz ones (RFC 4733 §2.3 wants the clock of the
// sound, and telephones take 8000 whatever the codec).
func choose(offered, local []Format) []Format {
	var out []Format
	for _, l := range local {
		if l.IsEvent() || l.IsNoise() {
			continue
		}
		i := slices.IndexFunc(offered, l.Same)
		if i < 0 {
			continue
		}
		f := offered[i]
		if l.Params != "" {
			f.Params = l.Params
		}
		out = append(out, f)
		break
	}
	if len(out) == 0 {
		return nil
	}
	for _, o := range offered {
		if o.IsNoise() && slices.ContainsFunc(local, o.Same) && o.Clock == out[0].Clock {
			out = append(out, o)
		}
		if o.IsEvent() && slices.ContainsFunc(local, o.Same) && (o.Clock == out[0].Clock || o.Clock == 8000) {
			o.Params = "0-16"
			out = append(out, o)
		}
	}
	return out
}

// Prefer orders formats: those named first come first, in that order; the
// others follow in their own. Events keep their place at the end.
func Prefer(formats []Format, names []string) []Format {
	out := slices.Clone(formats)
	rank := func(f Format) int {
		if f.IsEvent() || f.IsNoise() {
			return len(names) + 1
		}
		for i, n := range names {
			if strings.EqualFold(n, f.Name) {
				return i
			}
		}
		return len(names)
	}
	slices.SortStableFunc(out, func(a, b Format) int { return rank(a) - rank(b) })
	return out
}
