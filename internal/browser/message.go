package browser

import (
	"encoding/json"
	"errors"

	"github.com/sipbridge/sipbridge/internal/media"
)

// message is what crosses the WebSocket (docs/signalling.md).
type message struct {
	Seq       uint64  `json:"seq,omitempty"`
	Ack       uint64  `json:"ack,omitempty"`
	Type      string  `json:"type"`
	Tab       string  `json:"tab,omitempty"`
	Fresh     bool    `json:"fresh,omitempty"`
	SDP       string  `json:"sdp,omitempty"`
	Candidate *string `json:"candidate,omitempty"`
	Digit     string  `json:"digit,omitempty"`
	Millis    int     `json:"ms,omitempty"`
	State     string  `json:"state,omitempty"`
	Name      string  `json:"name,omitempty"`
	Peer      string  `json:"peer,omitempty"`
	Code      string  `json:"code,omitempty"`
	Held      *bool   `json:"held,omitempty"`
	AtOnce    bool    `json:"at_once,omitempty"`
	Camera    *bool   `json:"camera,omitempty"`
	Recorded  *bool   `json:"recorded,omitempty"`

	Text map[string]string `json:"text,omitempty"` // by language

	ICEServers []media.ICEServer `json:"ice_servers,omitempty"`
}

// maxTab is the longest tab secret, in bytes.
const maxTab = 64

var errMessage = errors.New("browser: not a message of docs/signalling.md")

// decode reads a page's message. What it says is not judged here, only that it
// can be understood: unknown fields are left out, so that a newer page is served.
func decode(b []byte) (message, error) {
	var m message
	switch err := json.Unmarshal(b, &m); {
	case err != nil, m.Type == "", len(m.Tab) > maxTab, m.Millis < 0:
		return message{}, errMessage
	}
	return m, nil
}
