package edge

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// TLS is how we show who we are.
type TLS struct {
	CertFile string `yaml:"cert_file" doc:"Our certificate and what it is signed by, in PEM: the page is served by HTTPS, tls:// listeners of SIP want it, trunks are shown it if they ask. When the file changes it is read again."`
	KeyFile  string `yaml:"key_file" doc:"Its private key, in PEM."`
}

// lookEvery is how often the files are looked at.
const lookEvery = 10 * time.Second

// Certificates is our certificate, as its files are now.
type Certificates struct {
	cfg TLS
	log *slog.Logger

	mu      sync.Mutex // guards all below
	now     *tls.Certificate
	changed [2]time.Time
	looked  time.Time
}

// Load reads the certificate; nil if there is none.
func (t TLS) Load(log *slog.Logger) (*Certificates, error) {
	if t.CertFile == "" && t.KeyFile == "" {
		return nil, nil
	}
	c := &Certificates{cfg: t, log: log, looked: time.Now()}
	c.changed = c.times()
	var err error
	c.now, err = c.read()
	return c, err
}

func (c *Certificates) read() (*tls.Certificate, error) {
	own, err := tls.LoadX509KeyPair(c.cfg.CertFile, c.cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	if own.Leaf == nil {
		if own.Leaf, err = x509.ParseCertificate(own.Certificate[0]); err != nil {
			return nil, fmt.Errorf("the certificate: %w", err)
		}
	}
	return &own, nil
}

// times is when the files were written; zero where one is not there.
func (c *Certificates) times() (t [2]time.Time) {
	for i, f := range []string{c.cfg.CertFile, c.cfg.KeyFile} {
		if s, err := os.Stat(f); err == nil {
			t[i] = s.ModTime()
		}
	}
	return t
}

// Get is the certificate. Files that have changed are read again; where they
// cannot be, or do not fit together yet, the one before goes on.
func (c *Certificates) Get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookEvery {
		return c.now
	}
	c.looked = time.Now()
	if t := c.times(); t != c.changed {
		next, err := c.read()
		if err != nil {
			c.log.Error("the new certificate is not taken", "error", err)
			return c.now
		}
		c.now, c.changed = next, t
		c.log.Info("a new certificate", "until", next.Leaf.NotAfter)
	}
	return c.now
}

// Until is when it expires.
func (c *Certificates) Until() time.Time { return c.Get().Leaf.NotAfter }
