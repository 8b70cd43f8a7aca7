package portal

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// ProbePath is where pages and sipbridge probe measure the way to the portal
// (docs/signalling.md).
const ProbePath = "/probe"

// Bounds on one measurement.
const (
	maxProbes   = 64
	maxProbesBy = 8 // from one address
	probeWithin = 30 * time.Second
	maxProbed   = 8 << 20 // bytes each way
	probeChunk  = 16 << 10
)

// probe says back what it hears, counts what it is sent, and sends what it is asked
// for.
func (p *Portal) probe(w http.ResponseWriter, r *http.Request) {
	from := source(r)
	if !p.probes.enter(from) {
		http.Error(w, "too many measurements", http.StatusServiceUnavailable)
		return
	}
	defer p.probes.leave(from)
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // it tells nothing to anybody
	if err != nil {
		return
	}
	p.wg.Add(1)
	defer p.wg.Done()
	defer ws.CloseNow()
	ws.SetReadLimit(maxMessage)
	ctx, cancel := context.WithTimeout(p.ctx, probeWithin)
	defer cancel()
	heard, given := 0, 0
	for {
		kind, b, err := ws.Read(ctx)
		if err != nil {
			return
		}
		if kind == websocket.MessageBinary {
			if heard += len(b); heard > maxProbed {
				return
			}
			continue
		}
		say := string(b)
		switch {
		case say == "sum":
			say = "sum:" + strconv.Itoa(heard)
		case strings.HasPrefix(say, "give:"):
			n, err := strconv.Atoi(say[len("give:"):])
			if err != nil || n < 0 || given+n > maxProbed {
				return
			}
			given += n
			for chunk := make([]byte, probeChunk); n > 0; n -= len(chunk) {
				if err := ws.Write(ctx, websocket.MessageBinary, chunk[:min(n, len(chunk))]); err != nil {
					return
				}
			}
			say = "given"
		}
		if err := ws.Write(ctx, websocket.MessageText, []byte(say)); err != nil {
			return
		}
	}
}
