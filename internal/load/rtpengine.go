package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sipbridge/sipbridge/internal/media"
	"github.com/sipbridge/sipbridge/internal/sdp"
)

// ThroughRTPEngine puts rtpengine between the same telephones and the same
// patients, driven by its control protocol ("ng": a cookie and a bencoded
// dictionary in a datagram), so that both are measured with the same streams.
func ThroughRTPEngine(control string, endpoint func() (media.Endpoint, error)) Connect {
	return func(ctx context.Context, n int, sound Sound, talking *sync.WaitGroup) (l line, err error) {
		began := time.Now()
		p, err := newPatient(sound, control)
		if err != nil {
			return line{}, err
		}
		ep, err := endpoint()
		if err != nil {
			return line{}, err
		}
		talking.Go(func() {
			for range ep.Events() {
				continue // until the endpoint is closed
			}
		})
		defer func() {
			if err != nil {
				ep.Close()
			}
		}()
		id := fmt.Sprintf("load-%d-%d", n, began.UnixNano())
		offer, err := ep.Offer(ctx, sdp.Session{})
		if err != nil {
			return line{}, err
		}
		command := map[string]any{"command": "offer", "call-id": id, "from-tag": "a", "sdp": string(offer),
			"transport-protocol": "UDP/TLS/RTP/SAVPF", "ICE": "force", "flags": []string{"trust-address", "generate-mid"}, "rtcp-mux": []string{"require"}, "SDES": []string{"off"}}
		if sound.Codec == "opus" {
			command["codec"] = map[string]any{"transcode": []string{"opus"}, "mask": []string{"PCMU"}}
		}
		toPatient, err := ng(control, command)
		if err != nil {
			return line{}, err
		}
		// pion answers nothing outside a bundle.
		answer, err := p.answer(strings.Replace(toPatient, "m=audio", "a=group:BUNDLE 1\r\nm=audio", 1))
		if err != nil {
			return line{}, err
		}
		// To rtpengine the unspecified address is a hold.
		answer = strings.ReplaceAll(answer, "c=IN IP4 0.0.0.0", "c=IN IP4 127.0.0.1")
		toPhone, err := ng(control, map[string]any{"command": "answer", "call-id": id, "from-tag": "a", "to-tag": "b", "sdp": answer,
			"transport-protocol": "RTP/AVP", "ICE": "remove", "flags": []string{"trust-address"}, "rtcp-mux": []string{"demux"}})
		if err != nil {
			return line{}, err
		}
		if _, err := ep.SetAnswer([]byte(toPhone)); err != nil {
			return line{}, fmt.Errorf("load: rtpengine's answer: %w", err)
		}
		return line{phone: ep.Stream(sdp.Audio), patient: p, took: time.Since(began), end: func() {
			if _, err := ng(control, map[string]any{"command": "delete", "call-id": id, "from-tag": "a"}); err != nil && !errors.Is(err, errNoSDP) {
				fmt.Println("load: delete:", err)
			}
			ep.Close()
		}}, nil
	}
}

var errNoSDP = errors.New("load: rtpengine answered without SDP")

// ng sends one command and returns the SDP of its answer.
func ng(control string, command map[string]any) (string, error) {
	c, err := net.Dial("udp", control)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var b bytes.Buffer
	b.WriteString("c" + strconv.FormatInt(time.Now().UnixNano(), 36) + " ")
	bencode(&b, command)
	if _, err := c.Write(b.Bytes()); err != nil {
		return "", err
	}
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	buf := make([]byte, 64<<10)
	n, err := c.Read(buf)
	if err != nil {
		return "", fmt.Errorf("load: rtpengine: %w", err)
	}
	if reason, ok := field(buf[:n], "error-reason"); ok {
		return "", fmt.Errorf("load: rtpengine: %s", reason)
	}
	s, ok := field(buf[:n], "sdp")
	if !ok {
		return "", errNoSDP
	}
	return s, nil
}

func bencode(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case string:
		fmt.Fprintf(b, "%d:%s", len(v), v)
	case []string:
		b.WriteByte('l')
		for _, s := range v {
			bencode(b, s)
		}
		b.WriteByte('e')
	case map[string]any:
		b.WriteByte('d')
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			bencode(b, k)
			bencode(b, v[k])
		}
		b.WriteByte('e')
	}
}

// field finds a string value by its key in a bencoded dictionary.
func field(b []byte, key string) (string, bool) {
	_, rest, ok := bytes.Cut(b, fmt.Appendf(nil, "%d:%s", len(key), key))
	if !ok {
		return "", false
	}
	size, value, ok := bytes.Cut(rest, []byte(":"))
	n, err := strconv.Atoi(string(size))
	if !ok || err != nil || n < 0 || n > len(value) {
		return "", false
	}
	return string(value[:n]), true
}
