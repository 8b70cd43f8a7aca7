package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// acmeALPN is the protocol by which an authority asks (RFC 8737 §3).
const acmeALPN = "acme-tls/1"

// renewEvery is how often it is looked whether a certificate has little time left, and
// at most how often an authority is asked when it wants its own renewed (RFC 9773).
const renewEvery = time.Minute

// managed is a certificate that an authority gives by ACME (RFC 8555).
type managed struct {
	host   string
	cache  *certmagic.Cache
	magic  *certmagic.Config
	cancel context.CancelFunc
}

// roots are who may have signed the authority's own certificate; nil: whoever the
// system trusts.
func (t TLS) roots() (*x509.CertPool, error) {
	if t.ACMECAFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(t.ACMECAFile)
	if err != nil {
		return nil, fmt.Errorf("acme_ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", t.ACMECAFile)
	}
	return pool, nil
}

// manage gets a certificate and renews it, in its own time: until there is one
// handshakes fail.
func (t TLS) manage(host, listen, dir string, log *slog.Logger) (Certificates, error) {
	roots, err := t.roots()
	if err != nil {
		return nil, err
	}
	address, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	m := &managed{host: host}
	m.cache = certmagic.NewCache(certmagic.CacheOptions{Logger: zap.NewNop(), RenewCheckInterval: renewEvery, GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return m.magic, nil }})
	m.magic = certmagic.New(m.cache, certmagic.Config{Storage: &certmagic.FileStorage{Path: dir}, Logger: zap.NewNop(),
		OnEvent: func(_ context.Context, event string, data map[string]any) error {
			switch event {
			case "cert_obtained":
				log.Info("the authority has given a certificate", "host", host, "renewal", data["renewal"])
			case "cert_failed":
				log.Error("the authority gives no certificate; it is asked again", "host", host, "error", data["error"])
			}
			return nil
		}})
	authority := certmagic.ACMEIssuer{CA: certmagic.LetsEncryptProductionCA, Email: t.Email, Agreed: true, TrustedRoots: roots,
		DisableHTTPChallenge: true, ListenHost: address, AltTLSALPNPort: number, Logger: zap.NewNop()}
	if t.Directory != "" {
		authority.CA = t.Directory
	}
	m.magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(m.magic, authority)}
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	if err := m.magic.ManageAsync(ctx, []string{host}); err != nil {
		m.Close()
		return nil, fmt.Errorf("acme: %w", err)
	}
	return m, nil
}

// Get implements Certificates.
func (m *managed) Get(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if h.ServerName == "" { // who comes by address sees whom we are all the same
		if own := m.Own(); own != nil {
			return own, nil
		}
	}
	return m.magic.GetCertificate(h)
}

// Own implements Certificates.
func (m *managed) Own() *tls.Certificate {
	var best *tls.Certificate
	for _, c := range m.cache.AllMatchingCertificates(m.host) {
		if best == nil || c.Leaf.NotAfter.After(best.Leaf.NotAfter) {
			best = &c.Certificate
		}
	}
	return best
}

// Close implements Certificates.
func (m *managed) Close() {
	m.cancel()
	m.cache.Stop()
}
