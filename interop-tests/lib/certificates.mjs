// Authorities and certificates of the test's own.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const dir = mkdtempSync(join(tmpdir(), 'sipbridge-tls-'));
export const at = (name) => join(dir, name);
const openssl = (...args) => execFileSync('openssl', args, { stdio: 'pipe' });

/** Makes an authority. */
export function authority(name) {
  openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', `/CN=${name}`, '-keyout', at(`${name}.key`), '-out', at(`${name}.pem`));
}

/** Makes a certificate of an authority's for an address and names. */
export function certificate(name, by, address, ...names) {
  openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', `/CN=${name}`, '-keyout', at(`${name}.key`), '-out', at(`${name}.csr`));
  writeFileSync(at('san'), `subjectAltName=${[`IP:${address}`, ...names.map((n) => `DNS:${n}`)]}\n`);
  openssl('x509', '-req', '-in', at(`${name}.csr`), '-CA', at(`${by}.pem`), '-CAkey', at(`${by}.key`), '-CAcreateserial', '-days', '2', '-extfile', at('san'), '-out', at(`${name}.pem`));
}

/** A home directory in which browsers trust an authority. */
export function trusting(name) {
  const home = mkdtempSync(join(tmpdir(), 'sipbridge-trust-'));
  const db = join(home, '.pki/nssdb');
  execFileSync('mkdir', ['-p', db]);
  execFileSync('certutil', ['-d', `sql:${db}`, '-N', '--empty-password']);
  execFileSync('certutil', ['-d', `sql:${db}`, '-A', '-t', 'C,,', '-n', name, '-i', at(`${name}.pem`)]);
  return home;
}
