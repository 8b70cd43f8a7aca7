package admin

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/sipbridge/sipbridge/internal/history"
	"github.com/sipbridge/sipbridge/internal/policy"
)

// Policies is the policy of the moment and those before it.
type Policies interface {
	Current() *policy.Policy
	Version() int
	Versions() ([]history.Version, error)
	Reload(by string) error
	Rollback(version int, by string) error
}

// by is who changes the policy through the API: all have one token, so it is who they
// say they are (From, RFC 9110 §10.1.2), where they say so.
func by(r *http.Request) string {
	who := strings.TrimSpace(r.Header.Get("From"))
	if who == "" || len(who) > 64 || strings.ContainsFunc(who, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "the API"
	}
	return who + " by the API"
}

// PolicyVersions is what is told of the policy's versions, without their texts.
type PolicyVersions struct {
	Current  int               `json:"current"`
	Warnings []string          `json:"warnings"`
	Versions []history.Version `json:"versions"`
}

func (s *Server) versions(w http.ResponseWriter, _ *http.Request) {
	all, err := s.o.Policies.Versions()
	if err != nil {
		problem(w, 500, err.Error())
		return
	}
	for i := range all {
		all[i].Text = ""
	}
	out := PolicyVersions{Current: s.o.Policies.Version(), Warnings: []string{}, Versions: all}
	out.Warnings = append(out.Warnings, s.o.Policies.Current().Warnings()...)
	send(w, 200, out)
}

func (s *Server) version(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("version"))
	if err != nil {
		problem(w, 404, "a version is a number")
		return
	}
	all, err := s.o.Policies.Versions()
	if err != nil {
		problem(w, 500, err.Error())
		return
	}
	for _, v := range all {
		if v.Number == n {
			send(w, 200, v)
			return
		}
	}
	problem(w, 404, history.ErrNone.Error())
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	if err := s.o.Policies.Reload(by(r)); err != nil {
		problem(w, 409, err.Error())
		return
	}
	s.versions(w, r)
}

func (s *Server) rollback(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Version int `json:"version"`
	}
	if !read(w, r, &q) {
		return
	}
	if err := s.o.Policies.Rollback(q.Version, by(r)); err != nil {
		problem(w, 409, err.Error())
		return
	}
	s.versions(w, r)
}
