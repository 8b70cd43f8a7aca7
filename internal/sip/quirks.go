package sip

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	sipmsg "github.com/emiago/sipgo/sip"
)

// Quirk is what a make of PBX does otherwise than the standards that the rest of
// the house speaks: In turns what it says into those, Out what it is told.
type Quirk struct {
	Name   string
	About  string // what it does
	Source string // where that is written
	In     func(*letter)
	Out    func(invite *sipmsg.Request)
}

// Quirks are those that are known; testdata/quirks has a message before and after
// each.
var Quirks = []Quirk{
	{Name: "asterisk", About: "Who calls stands in Remote-Party-ID, both ways.",
		Source: "Asterisk, pjsip.conf: send_rpid, trust_id_inbound; draft-ietf-sip-privacy-04", In: fromRemoteParty, Out: toRemoteParty},
	{Name: "avaya", About: "Where a call was before stands in History-Info alone: it is told as Diversion, too.",
		Source: "RFC 7544 §3", In: divert},
	{Name: "cisco", About: "Who calls stands in Remote-Party-ID, both ways.",
		Source: "Cisco Unified CM, SIP trunk settings: Remote-Party-ID; draft-ietf-sip-privacy-04", In: fromRemoteParty, Out: toRemoteParty},
	{Name: "poly", About: "Alert-Info is a word, Ring Answer, where a telephone is to answer without a ring.",
		Source: "Polycom UC Software, voIpProt.SIP.alertInfo.x.value with class ringAutoAnswer; RFC 3261 §20.4 wants a URI there", In: fromRingAnswer, Out: toRingAnswer},
	{Name: "tandberg", About: "H.264's profile-level-id may lack a digit (4280D): it is 42800D.",
		Source: "traces of TANDBERG endpoints in the trackers of other gateways; RFC 6184 §8.1", In: sixDigits},
}

// letter is a message as it stands on the wire.
type letter struct {
	start   string
	fields  []field
	body    string
	changed bool
}

func (l *letter) all(name string) (values []string) {
	for _, f := range l.fields {
		if f.name == name {
			values = append(values, f.value)
		}
	}
	return values
}

func (l *letter) add(name, value string) {
	l.fields, l.changed = append(l.fields, field{name, value}), true
}

// unquirk turns a message from a trunk into what the standards would have it be.
func (s *Server) unquirk(from netip.Addr, data []byte) []byte {
	t := s.match(from)
	if t == nil || len(t.Quirks) == 0 {
		return data
	}
	return t.unquirk(data)
}

func (t Trunk) unquirk(data []byte) []byte {
	h, size := head(data)
	if size == 0 {
		return data
	}
	start, all := fields(h)
	if slices.ContainsFunc(all, func(f field) bool { return f.name == "" }) {
		return data // what cannot be read is refused as it is
	}
	l := &letter{start: start, fields: all, body: string(data[size:])}
	for q := range t.quirks() {
		if q.In != nil {
			q.In(l)
		}
	}
	if !l.changed {
		return data
	}
	for i, f := range l.fields {
		if once[f.name] == "content-length" {
			l.fields[i].value = strconv.Itoa(len(l.body))
		}
	}
	return rewrite(l.start, l.fields, []byte(l.body))
}

// quirks are the trunk's.
func (t Trunk) quirks() func(yield func(Quirk) bool) {
	return func(yield func(Quirk) bool) {
		for _, q := range Quirks {
			if slices.Contains(t.Quirks, q.Name) && !yield(q) {
				return
			}
		}
	}
}

// fromRemoteParty turns Remote-Party-ID into P-Asserted-Identity and Privacy (RFC
// 3325 §9), where those are not there.
func fromRemoteParty(l *letter) {
	if len(l.all("p-asserted-identity")) > 0 {
		return
	}
	for _, v := range l.all("remote-party-id") {
		who, params, ok := strings.Cut(v, ">")
		params = strings.ToLower(params)
		if !ok || strings.Contains(params, "party=called") {
			continue
		}
		l.add("p-asserted-identity", who+">")
		if !strings.Contains(params, "privacy=off") && strings.Contains(params, "privacy=") && len(l.all("privacy")) == 0 {
			l.add("privacy", "id")
		}
		return
	}
}

// toRemoteParty tells in Remote-Party-ID what P-Asserted-Identity does.
func toRemoteParty(invite *sipmsg.Request) {
	h := invite.GetHeader("P-Asserted-Identity")
	if h == nil {
		return
	}
	privacy := "off"
	if invite.GetHeader("Privacy") != nil {
		privacy = "full"
	}
	invite.AppendHeader(header("Remote-Party-ID", h.Value()+";party=calling;screen=yes;privacy="+privacy))
}

// ringAnswer is the word that dial plans send to Polycom's telephones.
const ringAnswer = "Ring Answer"

// fromRingAnswer turns that word into Answer-Mode (RFC 5373 §4.1).
func fromRingAnswer(l *letter) {
	if !strings.HasPrefix(l.start, "INVITE ") || len(l.all("answer-mode")) > 0 {
		return
	}
	for _, v := range l.all("alert-info") {
		if strings.EqualFold(strings.Trim(v, " <>"), ringAnswer) {
			l.add("answer-mode", "Auto")
			return
		}
	}
}

// toRingAnswer asks with that word where Answer-Mode asks.
func toRingAnswer(invite *sipmsg.Request) {
	if invite.GetHeader("Answer-Mode") == nil {
		return
	}
	for invite.RemoveHeader("Alert-Info") {
	}
	invite.AppendHeader(header("Alert-Info", ringAnswer))
}

// reasons of RFC 7544 §3.1, by the cause in a History-Info entry's URI (RFC 4458).
var diverted = map[string]string{"302": "unconditional", "486": "user-busy", "408": "no-answer", "480": "deflection", "487": "deflection", "503": "unavailable", "404": "unknown"}

// mostDiverted bounds the diversions that are told.
const mostDiverted = 5

var cause = regexp.MustCompile(`(?i)[;?&]cause=(\d{3})`)

// divert tells as Diversion what History-Info says, the last diversion first (RFC
// 5806 §4): an entry with a cause was reached by way of the one before it.
func divert(l *letter) {
	if len(l.all("diversion")) > 0 {
		return
	}
	var entries []string
	for _, v := range l.all("history-info") {
		entries = append(entries, list(v)...)
	}
	told := 0
	for i := len(entries) - 1; i > 0 && told < mostDiverted; i-- {
		m := cause.FindStringSubmatch(entries[i])
		by, _, ok := strings.Cut(entries[i-1], ">")
		if m == nil || diverted[m[1]] == "" || !ok {
			continue
		}
		if _, uri, ok := strings.Cut(by, "<"); ok {
			by, _, _ = strings.Cut(uri, ";")
			by, _, _ = strings.Cut(by, "?")
			l.add("diversion", "<"+by+">;reason="+diverted[m[1]]+";counter=1")
			told++
		}
	}
}

// list splits a header's values at the commas that part them.
func list(v string) (out []string) {
	quoted, inside, begin := false, false, 0
	for i, r := range v {
		switch {
		case r == '"':
			quoted = !quoted
		case quoted:
		case r == '<' || r == '>':
			inside = r == '<'
		case r == ',' && !inside:
			out = append(out, strings.TrimSpace(v[begin:i]))
			begin = i + 1
		}
	}
	return append(out, strings.TrimSpace(v[begin:]))
}

var fiveDigits = regexp.MustCompile(`(profile-level-id=[0-9A-Fa-f]{4})([0-9A-Fa-f])([^0-9A-Fa-f]|$)`)

// sixDigits writes a level with the digit that it lacks.
func sixDigits(l *letter) {
	if b := fiveDigits.ReplaceAllString(l.body, "${1}0${2}${3}"); b != l.body {
		l.body, l.changed = b, true
	}
}
