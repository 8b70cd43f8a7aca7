// Command phone is the sound of a telephone: G.711 A-law by RTP, 20 ms a packet,
// silence where it has nothing to say. Orders come as JSON objects on standard
// input, one a line; each is answered with {} when it is done.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/pion/rtp"

	"github.com/sipbridge/sipbridge/internal/sdp"
	"github.com/sipbridge/sipbridge/internal/transcode"
)

// order is one thing to do: the fields that are set.
type order struct {
	To     string // where to send
	Say    string // file of A-law samples to play, once
	Record bool   // keep what is heard from now on
	Keep   string // file to write what was heard to
}

const (
	packet = 160  // samples
	hush   = 0xd5 // silence in A-law
	type8  = 8    // PCMA (RFC 3551 §6)
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("phone: ")
	listen := flag.String("listen", "", "address and port for RTP; RTCP has the next port")
	drift := flag.Float64("drift", 0, "how much too fast the clock is, parts per million")
	flag.Parse()
	at, err := netip.ParseAddrPort(*listen)
	if err != nil {
		log.Fatal(err)
	}
	sound, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		log.Fatal(err)
	}
	reports, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), at.Port()+1)))
	if err != nil {
		log.Fatal(err)
	}
	go func() { // they are taken, so that nobody hears that the port is closed
		var b [2048]byte
		for {
			if _, _, err := reports.ReadFromUDP(b[:]); err != nil {
				return
			}
		}
	}()
	p := &phone{socket: sound, period: time.Duration(20e6 / (1 + *drift/1e6))}
	law := sdp.Format{Name: "PCMA", Clock: 8000}
	if p.ear, err = transcode.New(law, law, 20*time.Millisecond); err != nil {
		log.Fatal(err)
	}
	go p.talk()
	go p.listen()
	fmt.Println("{}") // it is there
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			log.Fatalf("order %s: %v", in.Bytes(), err)
		}
		if err := p.obey(o); err != nil {
			log.Fatalf("order %s: %v", in.Bytes(), err)
		}
		fmt.Println("{}")
	}
}

type phone struct {
	socket *net.UDPConn
	period time.Duration // of a packet

	mu        sync.Mutex // guards all below
	to        *net.UDPAddr
	saying    []byte
	recording bool
	heard     []byte

	// ---- owned by listen ----
	ear    *transcode.Transcoder // conceals what is missing, as a telephone does
	expect uint32
	ssrc   uint32
}

func (p *phone) obey(o order) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.To != "" {
		if p.to, err = net.ResolveUDPAddr("udp", o.To); err != nil {
			return err
		}
	}
	if o.Say != "" {
		if p.saying, err = os.ReadFile(o.Say); err != nil {
			return err
		}
	}
	if o.Record {
		p.recording, p.heard = true, nil
	}
	if o.Keep != "" {
		p.recording = false
		return os.WriteFile(o.Keep, p.heard, 0o600)
	}
	return nil
}

// talk sends a packet each period, by a schedule that waits for nobody.
func (p *phone) talk() {
	h := rtp.Header{Version: 2, PayloadType: type8, SSRC: 0x70686f6e, Timestamp: 1, Marker: true}
	for due := time.Now(); ; due = due.Add(p.period) {
		time.Sleep(time.Until(due))
		frame := make([]byte, packet)
		for i := range frame {
			frame[i] = hush
		}
		p.mu.Lock()
		p.saying = p.saying[copy(frame, p.saying):]
		to := p.to
		p.mu.Unlock()
		b, err := (&rtp.Packet{Header: h, Payload: frame}).Marshal()
		if err != nil {
			log.Fatal(err)
		}
		h.SequenceNumber, h.Timestamp, h.Marker = h.SequenceNumber+1, h.Timestamp+packet, false
		if to != nil {
			if _, err := p.socket.WriteTo(b, to); err != nil {
				log.Print(err)
			}
		}
	}
}

// listen hears what comes: the telephone's own line is good, so what is missing
// was lost before it.
func (p *phone) listen() {
	var b [2048]byte
	for {
		n, _, err := p.socket.ReadFromUDP(b[:])
		if err != nil {
			log.Fatal(err)
		}
		var in rtp.Packet
		if in.Unmarshal(b[:n]) != nil || in.PayloadType != type8 {
			continue
		}
		if in.SSRC != p.ssrc {
			p.ssrc, p.expect = in.SSRC, in.Timestamp
		}
		gap := int32(in.Timestamp - p.expect)
		if gap < 0 {
			continue // late, or twice
		}
		for ; gap >= 80 && gap < 8000; gap -= 80 {
			if err := p.ear.Conceal(10*time.Millisecond, nil); err != nil {
				log.Fatal(err)
			}
			p.hear()
		}
		p.expect = in.Timestamp + uint32(len(in.Payload))
		if _, err := p.ear.Push(in.Payload, transcode.Steady); err != nil {
			continue
		}
		p.hear()
	}
}

func (p *phone) hear() {
	for p.ear.Pending() >= p.ear.Packet() {
		f, err := p.ear.Frame()
		if err != nil {
			log.Fatal(err)
		}
		p.mu.Lock()
		if p.recording {
			p.heard = append(p.heard, f...)
		}
		p.mu.Unlock()
	}
}
