package sip

import (
	"strings"

	sipmsg "github.com/emiago/sipgo/sip"

	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/policy"
)

// passed are the headers that tell where a call was before. Trusted trunks hear
// them from one another (RFC 5806, RFC 7044).
var passed = []string{"Diversion", "History-Info"}

// mostPassed bounds the headers of a kind that are passed on.
const mostPassed = 10

// identity is what an INVITE says of its caller (RFC 3325 §9, RFC 3323 §4). What
// nobody vouches for is not taken: only a trusted trunk can assert.
func identity(t *trunk, req *sipmsg.Request) call.Identity {
	var id call.Identity
	for _, p := range req.GetHeaders("Privacy") {
		for v := range strings.SplitSeq(p.Value(), ";") {
			switch strings.ToLower(strings.TrimSpace(v)) {
			case "id", "header", "user":
				id.Private = true
			}
		}
	}
	if !t.Trusted {
		return id
	}
	for _, h := range req.GetHeaders("P-Asserted-Identity") {
		if a, ok := asserted(h.Value()); ok {
			id.Asserted = a
			break
		}
	}
	for _, name := range passed {
		for _, h := range req.GetHeaders(name) {
			if len(id.Passed[name]) == mostPassed {
				break
			}
			if id.Passed == nil {
				id.Passed = map[string][]string{}
			}
			id.Passed[name] = append(id.Passed[name], h.Value())
		}
	}
	return id
}

// asserted reads the first address of a P-Asserted-Identity.
func asserted(v string) (policy.Address, bool) {
	if end := strings.Index(v, ">"); end >= 0 {
		v = v[:end+1]
	}
	var u sipmsg.Uri
	params := sipmsg.NewParams()
	display, err := sipmsg.ParseAddressValue(v, &u, &params)
	if err != nil || u.User == "" {
		return policy.Address{}, false
	}
	return policy.Address{User: u.User, Host: u.Host, Display: display}, true
}

// present is the From that a trunk sees, and says beside it what only trusted
// trunks may know.
func (t *trunk) present(req *sipmsg.Request, from *sipmsg.FromHeader, id call.Identity) {
	if id.Private {
		from.DisplayName, from.Address = "Anonymous", sipmsg.Uri{Scheme: "sip", User: "anonymous", Host: "anonymous.invalid"}
	}
	if !t.Trusted {
		return
	}
	if a := id.Asserted; userPart(a.User) == a.User {
		u := sipmsg.Uri{Scheme: "sip", User: a.User, Host: a.Host}
		if u.Host == "" {
			u.Host = req.Recipient.Host
		}
		req.AppendHeader(header("P-Asserted-Identity", strings.TrimSpace(`"`+clean(a.Display)+`" <`+u.String()+`>`)))
	}
	if id.Private {
		req.AppendHeader(header("Privacy", "id"))
	}
	for _, name := range passed {
		for _, v := range id.Passed[name] {
			req.AppendHeader(header(name, v))
		}
	}
}
