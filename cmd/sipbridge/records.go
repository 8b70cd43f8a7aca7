package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sipbridge/sipbridge/internal/audit"
	"github.com/sipbridge/sipbridge/internal/bus"
	"github.com/sipbridge/sipbridge/internal/sip"
)

// ledger keeps the dialogs that stand in the bus's store.
type ledger struct{ bus *bus.Bus }

func dialogKey(callID, localTag string) string {
	sum := sha256.Sum256([]byte(callID + "\x00" + localTag))
	return hex.EncodeToString(sum[:12])
}

func (l ledger) Open(d sip.DialogState) {
	l.bus.Keep(l.bus.Dialogs(), dialogKey(d.CallID, d.LocalTag), d)
}

func (l ledger) Close(callID, localTag string) {
	l.bus.Strike(l.bus.Dialogs(), dialogKey(callID, localTag))
}

// bindings keep where rooms are in the bus's store.
type bindings struct {
	bus *bus.Bus
	log *slog.Logger
}

func (b bindings) Save(room string, all []sip.Binding) {
	if len(all) == 0 {
		b.bus.Strike(b.bus.Bindings(), room)
		return
	}
	b.bus.Keep(b.bus.Bindings(), room, slices.Clone(all))
}

func (b bindings) Load() map[string][]sip.Binding {
	out := map[string][]sip.Binding{}
	rooms, err := b.bus.Bindings().Keys()
	if err != nil {
		b.log.Error("registrations not read", "error", err)
		return out
	}
	for _, room := range rooms {
		var all []sip.Binding
		if err := b.bus.Bindings().Get(room, &all); err != nil {
			b.log.Error("registration not read", "room", room, "error", err)
			continue
		}
		out[room] = all
	}
	return out
}

// openCall leaves word of a call, so that it has its record should we die in it.
func (g *gateway) openCall(r audit.Record) { g.bus.Keep(g.bus.Calls(), r.ID, r) }

// record writes a call's one record and strikes the word left of it.
func (g *gateway) record(r audit.Record) {
	g.bus.Later(func() { g.write(r) })
}

func (g *gateway) write(r audit.Record) {
	if err := g.lines.Write(r); err != nil {
		g.log.Error("call record not written", "call", r.ID, "error", err)
		return // the word stays: the next start writes it
	}
	if err := g.bus.Record(r.ID, r); err != nil {
		g.log.Error("call record not published", "call", r.ID, "error", err)
	}
	g.bus.Strike(g.bus.Calls(), r.ID)
}

// recover ends what a gateway before this one left behind: a BYE for each
// dialog, a record for each call.
func (g *gateway) recover() {
	keys, err := g.bus.Dialogs().Keys()
	if err != nil {
		g.log.Error("dialogs of an earlier run", "error", err)
	}
	var wg sync.WaitGroup
	for _, k := range keys {
		var d sip.DialogState
		if g.bus.Dialogs().Get(k, &d) == nil {
			wg.Go(func() { g.sip.Bury(d) })
		}
	}
	g.opened(wg.Wait)
	ids, err := g.bus.Calls().Keys()
	if err != nil {
		g.log.Error("calls of an earlier run", "error", err)
	}
	if len(ids) == 0 {
		return
	}
	written := g.writtenIDs()
	for _, id := range ids {
		var r audit.Record
		if g.bus.Calls().Get(id, &r) != nil {
			continue
		}
		if written[id] {
			if err := g.bus.Calls().Delete(id); err != nil {
				g.log.Warn("recorded call not forgotten", "call", id, "error", err)
			}
			continue
		}
		r.Ended = time.Now()
		r.Cause = audit.Cause{Status: 500, Q850: 41, Text: "the gateway was killed in this call"}
		g.record(r)
		g.log.Info("call of an earlier run recorded", "call", id)
	}
}

// writtenIDs are the calls that stand in the file already: a crash may fall
// between the writing and the striking.
func (g *gateway) writtenIDs() map[string]bool {
	out := map[string]bool{}
	f, err := os.Open(filepath.Join(g.cfg.State, "calls.jsonl"))
	if err != nil {
		return out
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var r struct{ ID string }
		if json.Unmarshal(s.Bytes(), &r) == nil {
			out[r.ID] = true
		}
	}
	return out
}
