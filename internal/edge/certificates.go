package edge

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"
)

// TLS is how we show who we are.
type TLS struct {
	CertFile   string `yaml:"cert_file" doc:"Our certificate and what it is signed by, in PEM: the page is served by HTTPS, tls:// listeners of SIP want it, trunks are shown it if they ask. When the file changes it is read again."`
	KeyFile    string `yaml:"key_file" doc:"Its private key, in PEM."`
	ACME       bool   `yaml:"acme" doc:"Instead of files: the certificate is got for the host of portal.public_url from an authority that speaks ACME (RFC 8555), and renewed. It asks on TCP port 443 of that name, which must lead to portal.listen. You agree to the authority's terms." default:"false"`
	Directory  string `yaml:"acme_directory" doc:"The authority. Empty: Let's Encrypt."`
	Email      string `yaml:"acme_email" doc:"Whom the authority may write to."`
	ACMECAFile string `yaml:"acme_ca_file" doc:"Who signed the authority's own certificate, in PEM, where it is your own. Empty: whoever the system trusts."`
}

// Certificates is our certificate, from wherever it comes.
type Certificates interface {
	// Get is the one for a handshake.
	Get(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Own is the one that we show unasked; nil: there is none yet.
	Own() *tls.Certificate
	Close()
}

// Until is when a certificate expires; zero: there is none yet.
func Until(c Certificates) time.Time {
	if own := c.Own(); own != nil {
		return own.Leaf.NotAfter
	}
	return time.Time{}
}

// Check says what is wrong with the settings; any reports whether there is to be a
// certificate.
func (t TLS) Check(host string) (any bool, err error) {
	files := t.CertFile != "" || t.KeyFile != ""
	switch {
	case files && t.ACME:
		return true, errors.New("a certificate from files and from an authority")
	case t.ACME:
		if _, err := netip.ParseAddr(host); err == nil || host == "" {
			return true, fmt.Errorf("an authority gives no certificate for %q", host)
		}
		_, err := t.roots()
		return true, err
	case files:
		_, err := (&kept{cfg: t}).read()
		return true, err
	}
	return false, nil
}

// Open reads the certificate, or begins to get it; nil if there is to be none. host
// is whom it is for, listen where the authority will ask, dir where it is kept.
func (t TLS) Open(host, listen, dir string, log *slog.Logger) (Certificates, error) {
	switch {
	case t.ACME:
		return t.manage(host, listen, dir, log)
	case t.CertFile == "" && t.KeyFile == "":
		return nil, nil
	}
	c := &kept{cfg: t, log: log, looked: time.Now()}
	c.changed = c.times()
	var err error
	if c.now, err = c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

// lookEvery is how often the files are looked at.
const lookEvery = 10 * time.Second

// kept is our certificate as its files are now.
type kept struct {
	cfg TLS
	log *slog.Logger

	mu      sync.Mutex // guards all below
	now     *tls.Certificate
	changed [2]time.Time
	looked  time.Time
}

// Close implements Certificates.
func (*kept) Close() {}

// Get implements Certificates.
func (c *kept) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Own(), nil }

func (c *kept) read() (*tls.Certificate, error) {
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
func (c *kept) times() (t [2]time.Time) {
	for i, f := range []string{c.cfg.CertFile, c.cfg.KeyFile} {
		if s, err := os.Stat(f); err == nil {
			t[i] = s.ModTime()
		}
	}
	return t
}

// Own implements Certificates. Files that have changed are read again; where they
// cannot be, or do not fit together yet, the one before goes on.
func (c *kept) Own() *tls.Certificate {
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
