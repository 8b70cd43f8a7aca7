package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sipbridge/sipbridge/internal/sdp"
)

// Target is one place a call may go.
type Target struct {
	Kind   string // "visit", "trunk", "room", "announce"; "": whatever the policy says of Number
	Name   string // the trunk or room; of a target without a kind, who asks for it
	Number string // the number to dial there; "" on a visit: the dial code in To
	From   Address
	To     Address
	Terms

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

// Where names the trunk, room or visit, without a number.
func (t Target) Where() string {
	if t.Name == "" {
		return t.Kind
	}
	return t.Kind + ":" + t.Name
}

// Terms are on what terms a route lets a target be reached.
type Terms struct {
	Session sdp.Terms         // of sound, on both legs
	DTMF    string            // how digits go to a trunk or a room; "": as it says itself
	Headers map[string]string // of the INVITE to a trunk or a room
}

// group is one entry of to: targets that ring together or, if they have weights, of
// which one is tried after another.
type group struct {
	targets []Target
	weights []int // nil: they ring together
}

// order is how a group is tried: by the dice the first of those with weights, then the
// others as they stand.
func (g group) order(dice float64) [][]Target {
	if g.weights == nil {
		return [][]Target{slices.Clone(g.targets)}
	}
	sum := 0
	for _, w := range g.weights {
		sum += w
	}
	first, left := 0, min(int(dice*float64(sum)), sum-1)
	for left >= g.weights[first] {
		left -= g.weights[first]
		first++
	}
	out := [][]Target{{g.targets[first]}}
	for i, t := range g.targets {
		if i != first {
			out = append(out, []Target{t})
		}
	}
	return out
}

// mostWeight bounds a weight.
const mostWeight = 1000

// target reads one entry of to: a group, or a status to refuse with.
func (c *compiler) target(s string, path ...any) (g group, refuse int) {
	weighted := strings.Contains(s, "|")
	between := "&"
	if weighted {
		between = "|"
	}
	for one := range strings.SplitSeq(s, between) {
		one, weight := strings.TrimSpace(one), 1
		if at := strings.LastIndexByte(one, '*'); weighted && at >= 0 {
			n, err := strconv.Atoi(one[at+1:])
			if err != nil || n < 1 || n > mostWeight {
				c.fault(fmt.Sprintf("%q is no weight", one[at+1:]), "write a number from 1 to 1000, as in trunk:a*3 | trunk:b*1", path...)
				return group{}, 0
			}
			one, weight = one[:at], n
		}
		t, status, what := parseTarget(one, c.known)
		switch {
		case what != "":
			c.fault(what, "write visit, trunk:NAME/NUMBER, trunk:NAME, room:NAME, room, announce:NAME or refuse:CODE; with & between those that ring together, | between those of which one is tried first", path...)
			return group{}, 0
		case status > 0:
			refuse = status
		default:
			g.targets = append(g.targets, t)
			if weighted {
				g.weights = append(g.weights, weight)
			}
		}
	}
	if refuse > 0 && len(g.targets) > 0 {
		c.fault("a refusal beside a target", "leave one of them out", path...)
	}
	return g, refuse
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
	case "announce":
		if !slices.Contains(known.Announcements, rest) {
			return t, 0, fmt.Sprintf("no announcement is named %q", rest)
		}
		return Target{Kind: "announce", Name: rest}, 0, ""
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

// address fills in who is called, and by whom.
func address(groups []group, q *Query, w rewriter, caller string) [][]Target {
	out := make([][]Target, 0, len(groups))
	for _, g := range groups {
		out = append(out, g.order(q.Dice)...)
	}
	for _, g := range out {
		for k := range g {
			t := &g[k]
			t.From, t.To = q.Call.From, q.Call.To
			if caller != "" {
				t.From.User = caller
			}
			switch {
			case t.Kind == "trunk" && t.Number == "":
				t.Number = w.rewrite(q.Call.To.User)
			case t.Kind == "room" && t.Name == "":
				t.Name = q.Call.To.User
			}
		}
	}
	return out
}
