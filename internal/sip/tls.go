package sip

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	sipmsg "github.com/emiago/sipgo/sip"
)

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
	errNotTrusted = errors.New("sip: the certificate is not the trunk's")
	errStranger   = errors.New("sip: a stranger")
)

// asClient is how we call over TLS: whoever any trunk trusts is heard, and vouch
// says whether that was the right one.
func (s *Server) asClient() *tls.Config {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	for _, t := range s.trunks {
		roots.AppendCertsFromPEM(t.authority)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, VerifyConnection: s.vouch}
	if s.o.Certificate != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if own := s.o.Certificate(); own != nil {
				return own, nil
			}
			return new(tls.Certificate), nil
		}
	}
	return c
}

// vouch checks, after the usual, that the certificate is that of a trunk which is
// reached at this host. Of trunks that share one, one must be content; the others
// are asked before they send (belongs).
func (s *Server) vouch(cs tls.ConnectionState) error {
	var refused error
	for _, h := range s.over("TLS") {
		if !strings.EqualFold(h.host, cs.ServerName) && cs.PeerCertificates[0].VerifyHostname(h.domain()) != nil {
			continue
		}
		if refused = h.names(cs.PeerCertificates); refused == nil {
			return nil
		}
	}
	return refused
}

// belongs reports as an error that whoever is at a connection's other end is not
// the trunk: a connection is shared by all that lead to one place.
func (h *hop) belongs(c sipmsg.Connection) error {
	if t, ok := c.(*sipmsg.TCPConnection); ok {
		if t, ok := t.Conn.(*tls.Conn); ok {
			return h.names(t.ConnectionState().PeerCertificates)
		}
	}
	return errNotTrusted
}

func (h *hop) domain() string { return strings.Trim(h.uri.Host, "[]") }

// names checks that a certificate is for the trunk's domain, whatever host the DNS
// gave for that (RFC 5922 §7.1), and that no other trunk's authority signed it.
func (h *hop) names(certs []*x509.Certificate) error {
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	if _, err := certs[0].Verify(x509.VerifyOptions{DNSName: h.domain(), Roots: h.pool, Intermediates: between}); err != nil {
		return fmt.Errorf("%w: %w", errNotTrusted, err)
	}
	return nil
}

// asServer is how we are called over TLS: by trunks alone, and by those that are
// mutual only with a certificate of their authority.
func (s *Server) asServer() *tls.Config {
	base := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.o.Certificate(), nil }}
	hello := func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		from, err := netip.ParseAddrPort(h.Conn.RemoteAddr().String())
		if err != nil {
			return nil, err
		}
		t := s.match(from.Addr())
		if t == nil && s.rooms() {
			return nil, nil
		}
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
