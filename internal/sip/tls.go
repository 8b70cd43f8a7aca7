package sip

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
)

// TLS is how we show who we are.
type TLS struct {
	CertFile string `yaml:"cert_file" doc:"Our certificate and what it is signed by, in PEM. tls:// listeners want it; trunks are shown it if they ask."`
	KeyFile  string `yaml:"key_file" doc:"Its private key, in PEM."`
}

// Load reads the certificate; nil if there is none.
func (c TLS) Load() (*tls.Certificate, error) {
	if c.CertFile == "" && c.KeyFile == "" {
		return nil, nil
	}
	own, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	return &own, nil
}

// authorities reads who may have signed the trunk's certificate; nil: whoever the
// system trusts.
func (t *Trunk) authorities() (*x509.CertPool, []byte, error) {
	if t.CAFile == "" {
		return nil, nil, nil
	}
	b, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, nil, fmt.Errorf("the certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, nil, fmt.Errorf("%s holds no certificate in PEM", t.CAFile)
	}
	return pool, b, nil
}

var (
	errNotTrusted = errors.New("sip: the certificate is not signed by the trunk's own authority")
	errStranger   = errors.New("sip: a stranger")
)

// asClient is how we call over TLS. The name in the certificate is checked
// against the trunk's address; the authority, against the trunk's own.
func (s *Server) asClient() (*tls.Config, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	for _, t := range s.trunks {
		_, pem, err := t.authorities()
		if err != nil {
			return nil, err
		}
		roots.AppendCertsFromPEM(pem)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, VerifyConnection: func(cs tls.ConnectionState) error { return s.vouch(cs) }}
	if s.o.Certificate != nil {
		c.Certificates = []tls.Certificate{*s.o.Certificate}
	}
	return c, nil
}

// vouch checks, after the usual, that no trunk's authority spoke for another's
// name. Of trunks that share a name, one must be content.
func (s *Server) vouch(cs tls.ConnectionState) error {
	leaf := cs.PeerCertificates[0]
	var refused error
	for _, hop := range s.over("TLS") {
		if leaf.VerifyHostname(hop.uri.Host) != nil {
			continue
		}
		opts := x509.VerifyOptions{Roots: hop.pool, Intermediates: x509.NewCertPool()}
		for _, c := range cs.PeerCertificates[1:] {
			opts.Intermediates.AddCert(c)
		}
		_, err := leaf.Verify(opts)
		if err == nil {
			return nil
		}
		refused = fmt.Errorf("%w: %w", errNotTrusted, err)
	}
	return refused
}

// asServer is how we are called over TLS: by trunks alone, and by those that are
// mutual only with a certificate of their authority.
func (s *Server) asServer() *tls.Config {
	base := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*s.o.Certificate}}
	hello := func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		from, err := netip.ParseAddrPort(h.Conn.RemoteAddr().String())
		if err != nil {
			return nil, err
		}
		t := s.match(from.Addr())
		if t == nil {
			s.strangers.Add(1)
			return nil, errStranger
		}
		if !t.Mutual {
			return nil, nil
		}
		c := base.Clone()
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, t.pool
		return c, nil
	}
	out := base.Clone()
	out.GetConfigForClient = hello
	return out
}
