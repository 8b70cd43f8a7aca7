// Package audit keeps the record of each call: one record a call, durable,
// written once, a crash included.
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Record is a call detail record.
type Record struct {
	ID        string    `json:"id"`
	SessionID string    `json:"session_id"` // RFC 7989
	Site      string    `json:"site"`
	Started   time.Time `json:"started"`
	Answered  time.Time `json:"answered,omitzero"`
	Ended     time.Time `json:"ended"`
	Source    string    `json:"source"`
	From      string    `json:"from"`
	To        string    `json:"to"`
	Visit     string    `json:"visit,omitempty"`
	Route     string    `json:"route,omitempty"`
	Emergency bool      `json:"emergency,omitempty"`
	Cause     Cause     `json:"cause"`
	Legs      []Leg     `json:"legs"`
}

// Cause is why a call ended.
type Cause struct {
	By     string `json:"by"`               // the leg or the reason that ended it
	Status int    `json:"status,omitempty"` // SIP status
	Q850   int    `json:"q850,omitempty"`   // ITU-T Q.850 cause
	Text   string `json:"text"`
}

// Leg is one leg's part in the record.
type Leg struct {
	Kind        string  `json:"kind"`
	Peer        string  `json:"peer"`
	Path        string  `json:"path,omitempty"`
	Received    uint64  `json:"received"`
	Sent        uint64  `json:"sent"`
	Loss        float64 `json:"loss"`
	JitterMS    float64 `json:"jitter_ms"`
	FarLoss     float64 `json:"far_loss"` // of what we send, as the peer reports it
	FarJitterMS float64 `json:"far_jitter_ms"`
	RTTMS       float64 `json:"rtt_ms"`
	MOS         float64 `json:"mos"`
	ConcealedMS float64 `json:"concealed_ms"` // sound made up in the place of what was lost
}

// Sink takes records. Write returns once the record cannot be lost.
type Sink interface {
	Write(Record) error
}

// forceAfter is how long a record may be the system's alone before it is forced to
// the disk: a power failure may take it, a crash of ours may not.
const forceAfter = 200 * time.Millisecond

// Lines is a sink of one JSON document a line.
type Lines struct {
	mu     sync.Mutex // guards all below
	f      *os.File
	force  *time.Timer // nil: all is on the disk
	failed error       // what the last forcing came to
}

// OpenLines appends to a file, which only its owner may read.
func OpenLines(path string) (*Lines, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return &Lines{f: f}, nil
}

// Write appends the record. An error may be that of forcing an earlier one to the
// disk.
func (l *Lines) Write(r Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.f.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if l.force == nil {
		l.force = time.AfterFunc(forceAfter, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.sync()
		})
	}
	err, l.failed = l.failed, nil
	return err
}

// sync forces what was written to the disk, unless that was done. It needs mu.
func (l *Lines) sync() {
	if l.force == nil {
		return
	}
	l.force.Stop()
	l.force = nil
	if err := l.f.Sync(); err != nil {
		l.failed = fmt.Errorf("audit: %w", err)
	}
}

// Close forces what was written to the disk and closes the file.
func (l *Lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sync()
	return errors.Join(l.failed, l.f.Close())
}
