package sip

import (
	"fmt"
	"os"
	"strings"

	sipmsg "github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// tries bounds how often one request is sent again with credentials: once for
// the challenge, once more for a nonce that went stale meanwhile.
const tries = 2

// strength orders the algorithms that we answer (RFC 8760 §2.4): the better one
// first, whatever the order of the challenges.
var strength = map[string]int{"SHA-512-256": 3, "SHA-256": 2, "MD5": 1, "": 1}

// password reads the trunk's secret.
func (t *Trunk) password() (string, error) {
	if t.PasswordFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(t.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("the password: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// authorized is the request that answers a challenge (RFC 3261 §22): the same
// once more, with the next CSeq. It is nil where there is nothing to answer or
// nothing to answer with: a trunk without credentials, a realm that is not the
// trunk's, an algorithm that we do not know, or a password that was not taken.
func (t *trunk) authorized(req *sipmsg.Request, res *sipmsg.Response, next func() uint32) *sipmsg.Request {
	asks, answers := "WWW-Authenticate", "Authorization"
	switch {
	case res == nil || t.Username == "":
		return nil
	case res.StatusCode == 407:
		asks, answers = "Proxy-Authenticate", "Proxy-Authorization"
	case res.StatusCode != 401:
		return nil
	}
	var best *digest.Challenge
	for _, h := range res.GetHeaders(asks) {
		c, err := digest.ParseChallenge(h.Value())
		if err != nil || strength[strings.ToUpper(c.Algorithm)] == 0 || t.Realm != "" && c.Realm != t.Realm {
			continue
		}
		for i := range c.QOP {
			c.QOP[i] = strings.TrimSpace(c.QOP[i])
		}
		if len(c.QOP) > 0 && !c.SupportsQOP("auth") {
			continue // auth-int: proxies change bodies
		}
		if best == nil || strength[strings.ToUpper(c.Algorithm)] > strength[strings.ToUpper(best.Algorithm)] {
			best = c
		}
	}
	if best == nil || req.GetHeader(answers) != nil && !best.Stale {
		return nil
	}
	credentials, err := digest.Digest(best, digest.Options{Method: string(req.Method), URI: req.Recipient.String(), Username: t.Username, Password: t.secret})
	if err != nil {
		return nil
	}
	again := renewed(req, next)
	for again.RemoveHeader(answers) {
		continue
	}
	again.AppendHeader(header(answers, credentials.String()))
	return again
}

// renewed is a request once more, as another transaction.
func renewed(req *sipmsg.Request, next func() uint32) *sipmsg.Request {
	again := req.Clone()
	again.RemoveHeader("Via")
	via := req.Via().Clone()
	via.Params.Add("branch", sipmsg.GenerateBranch())
	again.PrependHeader(via)
	again.CSeq().SeqNo = next()
	again.SetTransport(req.Transport())
	again.SetDestination(req.Destination())
	again.Laddr = req.Laddr
	return again
}

// retried is a request of the dialog once more, as its refusal demands: with a
// digest, with a longer session, or beside the dialog that it was to replace. It is nil if nothing can be done.
func (l *Leg) retried(req *sipmsg.Request, res *sipmsg.Response) *sipmsg.Request {
	if again := l.t.authorized(req, res, l.nextCSeq); again != nil {
		return again
	}
	if again := l.besides(req, res); again != nil {
		return again
	}
	return l.prolonged(req, res)
}

// vouched gives an ACK the credentials of its INVITE (RFC 3261 §22.1).
func vouched(ack, invite *sipmsg.Request) *sipmsg.Request {
	for _, name := range []string{"Authorization", "Proxy-Authorization"} {
		for _, h := range invite.GetHeaders(name) {
			ack.AppendHeader(sipmsg.HeaderClone(h))
		}
	}
	return ack
}

// nextCSeq is the number of the dialog's next request.
func (l *Leg) nextCSeq() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cseq++
	return l.cseq
}

// transact runs a non-INVITE transaction of the dialog, as Server.transact does.
func (l *Leg) transact(req *sipmsg.Request) int { return l.s.transact(l.hop, req, l.nextCSeq) }
