// Package invite keeps what a patient's link stands for. The link is 128 random
// bits; only its hash is kept, with an expiry that the store enforces.
package invite

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/sipbridge/sipbridge/internal/bus"
)

// Config says how visits are numbered.
type Config struct {
	DialPrefix string        `yaml:"dial_prefix" doc:"What a visit's dial code begins with." default:"7"`
	DialDigits int           `yaml:"dial_digits" doc:"How long a dial code is, the prefix included." default:"7"`
	Ring       time.Duration `yaml:"ring" doc:"How long a visit rings where its route does not say." default:"60s"`
}

// Invitation is what a patient's link stands for. The link's token is never
// kept, only its hash.
type Invitation struct {
	ID       string    `json:"id"`
	Hash     string    `json:"hash"`
	DialCode string    `json:"dial_code"`
	To       string    `json:"to"`   // the URI that becomes call.to
	Name     string    `json:"name"` // how the patient is shown
	Labels   Labels    `json:"labels,omitempty"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
}

// Labels are what routes may ask of an invitation: its department, say.
type Labels = map[string]string

// Bounds on labels.
const (
	maxLabels = 16
	maxLabel  = 64 // bytes of a name or a value
)

// MaxValid bounds how long a link may be valid.
const MaxValid = 90 * 24 * time.Hour

// MaxName bounds the length of a name, in bytes.
const MaxName = 128

// dialTries is how often a free dial code is looked for.
const dialTries = 50

// Book keeps invitations on the bus.
type Book struct {
	Site   string
	Config Config
	Store  bus.Store
	// Revoked is told of each invitation that is made void; nil: nobody is.
	Revoked func(Invitation)
}

// ErrNone is returned where there is none, or no longer.
var ErrNone = errors.New("no such invitation")

// Hash is what stands for a token on the bus and in the store: 128 bits of its
// SHA-256.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:16])
}

// Create makes an invitation and the token of its link: the site and 128 random
// bits.
func (v Book) Create(to, name string, labels Labels, valid time.Duration) (Invitation, string, error) {
	switch {
	case valid <= 0 || valid > MaxValid:
		return Invitation{}, "", fmt.Errorf("valid must be between 1s and %v", MaxValid)
	case !strings.HasPrefix(to, "sip:"):
		return Invitation{}, "", fmt.Errorf("%q is no SIP URI; write sip:NUMBER@HOST", to)
	case len(name) > MaxName:
		return Invitation{}, "", fmt.Errorf("a name may be %d bytes long", MaxName)
	case len(labels) > maxLabels:
		return Invitation{}, "", fmt.Errorf("%d labels are the most", maxLabels)
	}
	for k, l := range labels {
		if k == "" || len(k) > maxLabel || len(l) > maxLabel {
			return Invitation{}, "", fmt.Errorf("a label's name and value may be %d bytes long", maxLabel)
		}
	}
	var secret, id [16]byte
	rand.Read(secret[:])
	rand.Read(id[:])
	token := v.Site + "." + base64.RawURLEncoding.EncodeToString(secret[:])
	inv := Invitation{ID: hex.EncodeToString(id[:8]), Hash: Hash(token), To: to, Name: name, Labels: labels,
		Created: time.Now().UTC().Truncate(time.Second), Expires: time.Now().Add(valid).UTC().Truncate(time.Second)}
	for range dialTries {
		inv.DialCode = v.code()
		err := v.Store.Create("dial."+inv.DialCode, inv.Hash, valid)
		if errors.Is(err, bus.ErrExists) {
			continue
		}
		if err != nil {
			return Invitation{}, "", err
		}
		if err := v.Store.Create("id."+inv.ID, inv.Hash, valid); err != nil {
			return Invitation{}, "", err
		}
		return inv, token, v.Store.Create("token."+inv.Hash, inv, valid)
	}
	return Invitation{}, "", errors.New("no free dial code: lengthen visits.dial_digits")
}

func (v Book) code() string {
	n := max(v.Config.DialDigits-len(v.Config.DialPrefix), 1)
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
	x, err := rand.Int(rand.Reader, limit)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return fmt.Sprintf("%s%0*d", v.Config.DialPrefix, n, x)
}

// ByHash finds the invitation of a token's hash.
func (v Book) ByHash(hash string) (Invitation, error) {
	var inv Invitation
	err := v.Store.Get("token."+hash, &inv)
	switch {
	case errors.Is(err, bus.ErrNotFound), err == nil && time.Now().After(inv.Expires):
		return Invitation{}, ErrNone
	}
	return inv, err
}

// ByCode finds the invitation of a dial code.
func (v Book) ByCode(code string) (Invitation, error) { return v.via("dial." + code) }

// ByID finds the invitation with that ID.
func (v Book) ByID(id string) (Invitation, error) { return v.via("id." + id) }

func (v Book) via(key string) (Invitation, error) {
	var hash string
	if err := v.Store.Get(key, &hash); err != nil {
		if errors.Is(err, bus.ErrNotFound) {
			return Invitation{}, ErrNone
		}
		return Invitation{}, err
	}
	return v.ByHash(hash)
}

// Revoke makes a link void.
func (v Book) Revoke(id string) error {
	inv, err := v.ByID(id)
	if err != nil {
		return err
	}
	for _, key := range []string{"token." + inv.Hash, "dial." + inv.DialCode, "id." + inv.ID} {
		if err := v.Store.Delete(key); err != nil {
			return err
		}
	}
	if v.Revoked != nil {
		v.Revoked(inv)
	}
	return nil
}
