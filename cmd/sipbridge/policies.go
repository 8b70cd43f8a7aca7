package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipbridge/sipbridge/internal/config"
	"github.com/sipbridge/sipbridge/internal/history"
	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/policy"
	"github.com/sipbridge/sipbridge/internal/sip"
	"github.com/sipbridge/sipbridge/internal/transcode"
)

// policies is the policy of the moment and those before it. All that can fail happens
// before one takes another's place; a call keeps the decision it was born with.
type policies struct {
	cfg  Configuration // as it was at the start: trunks and rooms do not change
	book history.Book
	log  *slog.Logger

	now atomic.Pointer[policy.Policy]

	mu      sync.Mutex // one change at a time; guards version
	version int

	reloads, failures atomic.Uint64
}

// note keeps the policy of the start as a version, if it is another than the last.
func (p *policies) note(by string) {
	if p.cfg.file == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep(p.cfg.policyText, by)
}

// keep needs mu.
func (p *policies) keep(text, by string) {
	v, err := p.book.Add(text, by, time.Now())
	if err != nil {
		p.log.Error("the policy's version was not kept", "error", err)
		return
	}
	p.version = v.Number
}

// Current is the policy of the moment.
func (p *policies) Current() *policy.Policy { return p.now.Load() }

// Version is its number.
func (p *policies) Version() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.version
}

// Versions are those that are kept, the oldest first.
func (p *policies) Versions() ([]history.Version, error) { return p.book.Versions() }

// errNoFile is for a gateway that was not begun from one.
var errNoFile = errors.New("this gateway was not begun from a file")

// Reload reads the file again and takes its policy.
func (p *policies) Reload(by string) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() {
		if err != nil {
			p.failures.Add(1)
			p.log.Error("the policy stays as it was", "by", by, "error", err)
		}
	}()
	if p.cfg.file == "" {
		return errNoFile
	}
	cfg, err := again(p.cfg.file)
	if err != nil {
		return err
	}
	if err := p.take(cfg.policyText, by); err != nil {
		return err
	}
	p.reloads.Add(1)
	if a, b := apartFromPolicy(p.cfg), apartFromPolicy(cfg); !reflect.DeepEqual(a, b) {
		p.log.Warn("what changed beside the policy wants a restart", "file", p.cfg.file)
	}
	return nil
}

// Rollback takes an earlier version again. The file stays as it is.
func (p *policies) Rollback(n int, by string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.book.Version(n)
	if err != nil {
		return err
	}
	if err := p.take(v.Text, fmt.Sprintf("%s, back to %d", by, n)); err != nil {
		return fmt.Errorf("version %d cannot be taken any more: %w", n, err)
	}
	return nil
}

// take compiles a policy against the trunks and rooms that run, and puts it in force.
// It needs mu.
func (p *policies) take(text, by string) error {
	cfg := p.cfg
	cfg.Config = policy.Config{}
	doc := config.Parse("policy", []byte(text), &cfg)
	compiled := compile(&cfg, doc)
	if faults := doc.Faults(); len(faults) > 0 {
		return refused(faults)
	}
	p.now.Store(compiled)
	p.keep(text, by)
	p.log.Info("a policy was taken", "version", p.version, "by", by)
	for _, w := range compiled.Warnings() {
		p.log.Warn("policy", "warning", w)
	}
	return nil
}

// apartFromPolicy is a configuration without what a reload takes.
func apartFromPolicy(c Configuration) Configuration {
	c.Config, c.policyText = policy.Config{}, ""
	return c
}

// compile is check for the policy; nil if it has a fault.
func compile(c *Configuration, doc faulter) *policy.Policy {
	known := policy.Names{Codecs: transcode.Names(), Fits: media.Fits, Header: sip.Settable, Read: func(file string) ([]byte, error) {
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(c.file), file)
		}
		return readBounded(file)
	}}
	for name := range c.Trunks {
		known.Trunks = append(known.Trunks, name)
	}
	for name := range c.Rooms {
		known.Rooms = append(known.Rooms, name)
	}
	for name := range c.Announcements {
		known.Announcements = append(known.Announcements, name)
	}
	for i, r := range c.Routes {
		if r.Ring == 0 && strings.Contains(strings.Join(r.To, " "), "visit") {
			c.Routes[i].Ring = c.Visits.Ring
		}
	}
	p, err := policy.Compile(c.Config, known)
	for _, f := range flatten(err) {
		doc.Fault(f.What, f.Instead, f.Offset, f.Path...)
	}
	return p
}

// readBounded reads a file of a set.
func readBounded(file string) ([]byte, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if st.Size() > config.MaxSize || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: larger than %d bytes, or no file", file, config.MaxSize)
	}
	return os.ReadFile(file)
}

// policyKeys are the settings that a reload takes.
func policyKeys() []string {
	var out []string
	for _, f := range config.Fields(reflect.TypeFor[policy.Config]()) {
		out = append(out, f.Key)
	}
	return out
}
