// Package admin is what an administrator reaches: calls, invitations, the
// policy's reasons, metrics and health. It listens apart from the portal.
package admin

import (
	"context"
	"crypto/subtle"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sipbridge/sipbridge/internal/audit"
	"github.com/sipbridge/sipbridge/internal/call"
	"github.com/sipbridge/sipbridge/internal/invite"
	"github.com/sipbridge/sipbridge/internal/policy"
)

// Config says where administrators are served.
type Config struct {
	Listen    string `yaml:"listen" doc:"REST, metrics and health. Keep it on loopback or a management network." default:"127.0.0.1:9090"`
	TokenFile string `yaml:"token_file" doc:"A file with the bearer token that /api/ asks for; the environment variable SIPBRIDGE_ADMIN_TOKEN stands before it. Neither: a token is made at each start and kept in the state directory." example:"/etc/sipbridge/admin.token"`
}

// MinToken is the shortest bearer token taken, in bytes.
const MinToken = 16

//go:embed openapi.json
var openapi []byte

// maxBody bounds a request's body, in bytes.
const maxBody = 64 << 10

// Options is what the API needs from its surroundings.
type Options struct {
	Config      Config
	Token       string
	B2BUA       *call.B2BUA // nil: there are no calls here, and none of what follows but Ready and Metrics
	Invitations invite.Book
	Link        func(token string) string // the address of a patient's page
	Policies    Policies
	Trunks      func() []Trunk // by name
	Ready       func() error
	Metrics     *prometheus.Registry
	Log         *slog.Logger
}

// Server is the administration server.
type Server struct {
	o   Options
	srv *http.Server
	ln  net.Listener
	end chan struct{}
}

// New opens the listener and begins to serve.
func New(o Options) (*Server, error) {
	if len(o.Token) < MinToken {
		return nil, fmt.Errorf("admin: the token is shorter than %d bytes", MinToken)
	}
	s := &Server{o: o, end: make(chan struct{})}
	api := http.NewServeMux()
	if o.B2BUA != nil {
		s.serve(api)
	}
	api.HandleFunc("GET /api/v1/openapi.json", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(openapi)
	})
	api.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { problem(w, 404, "there is nothing here") })
	mux := http.NewServeMux()
	mux.Handle("/api/", s.guard(api))
	// Profiles, for whoever wants to know where the time goes: go tool pprof.
	mux.Handle("GET /debug/pprof/", s.guard(http.HandlerFunc(pprof.Index)))
	mux.Handle("GET /debug/pprof/profile", s.guard(http.HandlerFunc(pprof.Profile)))
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := o.Ready(); err != nil {
			problem(w, 503, err.Error())
			return
		}
		io.WriteString(w, "ok\n")
	})
	var err error
	if s.ln, err = net.Listen("tcp", o.Config.Listen); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	s.srv = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug)}
	go func() { // ended and waited for by Close
		defer close(s.end)
		if err := s.srv.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
			o.Log.Error("admin ended", "error", err)
		}
	}()
	return s, nil
}

// serve is what an engine has to tell.
func (s *Server) serve(api *http.ServeMux) {
	api.HandleFunc("POST /api/v1/invites", s.invite)
	api.HandleFunc("GET /api/v1/invites/{id}", s.invitation)
	api.HandleFunc("DELETE /api/v1/invites/{id}", s.revoke)
	api.HandleFunc("GET /api/v1/calls", s.calls)
	api.HandleFunc("GET /api/v1/calls/{id}", s.oneCall)
	api.HandleFunc("DELETE /api/v1/calls/{id}", s.hangup)
	api.HandleFunc("GET /api/v1/trunks", func(w http.ResponseWriter, r *http.Request) { send(w, 200, s.o.Trunks()) })
	api.HandleFunc("POST /api/v1/route", s.route)
	api.HandleFunc("GET /api/v1/policy", s.versions)
	api.HandleFunc("GET /api/v1/policy/{version}", s.version)
	api.HandleFunc("POST /api/v1/policy/reload", s.reload)
	api.HandleFunc("POST /api/v1/policy/rollback", s.rollback)
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Close ends the server.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.srv.Shutdown(ctx)
	if err != nil {
		s.srv.Close()
	}
	<-s.end
	return err
}

func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || subtle.ConstantTimeCompare([]byte(given), []byte(s.o.Token)) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			problem(w, 401, "a bearer token is wanted, and this is not it")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// problem is an RFC 9457 document.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"status": status, "title": http.StatusText(status), "detail": detail})
}

func send(w http.ResponseWriter, status int, doc any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(doc)
}

func read(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		problem(w, 400, "the body cannot be read: "+err.Error())
		return false
	}
	return true
}

// Invite is what is asked for and told of an invitation.
type Invite struct {
	ID       string    `json:"id"`
	URL      string    `json:"url,omitempty"` // told once, at creation
	DialCode string    `json:"dial_code"`
	Expires  time.Time `json:"expires"`
}

func (s *Server) invite(w http.ResponseWriter, r *http.Request) {
	var q struct {
		To    string `json:"to"`
		Name  string `json:"name"`
		Valid string `json:"valid"`

		Labels invite.Labels `json:"labels"`
	}
	if !read(w, r, &q) {
		return
	}
	valid := 2 * time.Hour
	if q.Valid != "" {
		var err error
		if valid, err = time.ParseDuration(q.Valid); err != nil {
			problem(w, 400, "valid: write a length of time such as 2h")
			return
		}
	}
	inv, token, err := s.o.Invitations.Create(q.To, q.Name, q.Labels, valid)
	if err != nil {
		problem(w, 400, err.Error())
		return
	}
	s.o.Log.Info("invitation made", "invitation", inv.ID, "expires", inv.Expires)
	send(w, 201, Invite{inv.ID, s.o.Link(token), inv.DialCode, inv.Expires})
}

func (s *Server) invitation(w http.ResponseWriter, r *http.Request) {
	inv, err := s.o.Invitations.ByID(r.PathValue("id"))
	if err != nil {
		problem(w, 404, err.Error())
		return
	}
	send(w, 200, Invite{inv.ID, "", inv.DialCode, inv.Expires})
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	if err := s.o.Invitations.Revoke(r.PathValue("id")); err != nil {
		problem(w, 404, err.Error())
		return
	}
	s.o.Log.Info("invitation revoked", "invitation", r.PathValue("id"))
	w.WriteHeader(http.StatusNoContent)
}

// Call is a call as an administrator sees it.
type Call struct {
	ID        string    `json:"id"`
	SessionID string    `json:"session_id"`
	State     string    `json:"state"`
	Since     time.Time `json:"since"`
	Route     string    `json:"route"`
	Legs      []Leg     `json:"legs"`
}

// Trunk is what is known of a trunk.
type Trunk struct {
	Name      string     `json:"name"`
	Address   string     `json:"address"`
	State     string     `json:"state"` // up, down, silent: it never answered an OPTIONS, or not asked
	Since     time.Time  `json:"since"`
	TripMS    float64    `json:"round_trip_ms"`
	RestUntil *time.Time `json:"rest_until,omitempty"`   // by its own wish (Retry-After)
	Enrolled  string     `json:"registration,omitempty"` // ours there: registered, no answer, refused with CODE
}

// Leg is one leg of it.
type Leg struct {
	Kind  string  `json:"kind"`
	Peer  string  `json:"peer"`
	Media []Media `json:"media"`
}

// Media is one medium of a leg, as it arrives from the leg's peer.
type Media struct {
	Kind     string  `json:"kind"`
	Path     string  `json:"path"`
	Received uint64  `json:"received"`
	Sent     uint64  `json:"sent"`
	Loss     float64 `json:"loss"`
	JitterMS float64 `json:"jitter_ms"`
	RTTMS    float64 `json:"rtt_ms"`
	MOS      float64 `json:"mos"`
	Hidden   float64 `json:"concealed_ms"`
	FarLoss  float64 `json:"far_loss"` // of what is sent to the peer, by its own word
	FarMS    float64 `json:"far_jitter_ms"`
}

func view(c *call.Call) Call {
	v := Call{ID: c.ID, SessionID: c.Session.ID, State: string(c.State()), Since: c.Started(), Route: c.Route(), Legs: []Leg{}}
	var paths [2]string
	if b := c.Bridge(); b != nil {
		paths = [2]string{b.AB.String(), b.BA.String()}
	}
	for i, l := range c.Legs() {
		d := call.Describe(l, paths[i&1])
		v.Legs = append(v.Legs, Leg{d.Kind, d.Peer, []Media{media(d)}})
	}
	return v
}

func media(d audit.Leg) Media {
	return Media{"audio", d.Path, d.Received, d.Sent, d.Loss, d.JitterMS, d.RTTMS, d.MOS, d.ConcealedMS, d.FarLoss, d.FarJitterMS}
}

func (s *Server) calls(w http.ResponseWriter, r *http.Request) {
	out := []Call{}
	for _, c := range s.o.B2BUA.Calls() {
		out = append(out, view(c))
	}
	send(w, 200, out)
}

func (s *Server) oneCall(w http.ResponseWriter, r *http.Request) {
	c, ok := s.o.B2BUA.Find(r.PathValue("id"))
	if !ok {
		problem(w, 404, "no call has that id")
		return
	}
	send(w, 200, view(c))
}

func (s *Server) hangup(w http.ResponseWriter, r *http.Request) {
	if err := s.o.B2BUA.Hangup(r.PathValue("id"), call.ByOperator); err != nil {
		problem(w, 404, "no call has that id")
		return
	}
	s.o.Log.Info("call ended by an administrator", "call", r.PathValue("id"))
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Source, From, To, At string
		Labels, Headers      map[string]string
		Codecs               []string
		Encrypted            bool
	}
	if !read(w, r, &q) {
		return
	}
	p := s.o.Policies.Current()
	asked := policy.Ask(q.Source, q.From, q.To)
	var err error
	if asked.At, err = p.When(q.At, time.Now()); err != nil {
		problem(w, 400, err.Error())
		return
	}
	asked.Call.Labels, asked.Call.Codecs, asked.Call.Encrypted = q.Labels, q.Codecs, q.Encrypted
	asked.Call.Headers = map[string]string{}
	for name, v := range q.Headers {
		asked.Call.Headers[strings.ToLower(name)] = v
	}
	send(w, 200, p.Explain(asked))
}
