// The page's certificate from an authority: Pebble, which speaks ACME as Let's
// Encrypt does, finds the gateway by dnsmasq and asks it on its own port.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import tls from 'node:tls';
import { at, authority, certificate } from '../lib/certificates.mjs';
import { server, serves } from '../lib/dns.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { makeHospital, dropHospital, endAll, track, until } from '../lib/net.mjs';

let gateway, pebble, root;

/** What an authority says at a place of its own. */
const ask = (url) => new Promise((resolve, reject) => {
  https.get(url, { rejectUnauthorized: false }, (r) => {
    let text = '';
    r.on('data', (d) => { text += d; });
    r.on('end', () => resolve(text));
  }).on('error', reject);
});

before(async () => {
  makeHospital();
  authority('ca');
  certificate('pebble', 'ca', '127.0.0.1');
  await serves('address=/visit.test/127.0.0.1');
  await starts();
});

/** An authority whose certificates are good for so many seconds, and a gateway that asks it. */
async function starts(seconds) {
  await gateway?.stop();
  pebble?.kill();
  await pebble?.over;
  writeFileSync(at('pebble.json'), JSON.stringify({ pebble: { listenAddress: '127.0.0.1:14000', managementListenAddress: '127.0.0.1:15000', certificate: at('pebble.pem'), privateKey: at('pebble.key'),
    httpPort: 15002, tlsPort: 18080, ocspResponderURL: '', externalAccountBindingRequired: false, ...(seconds && { profiles: { default: { description: 'short', validityPeriod: seconds } } }) } }));
  const bin = new URL('../../bin/', import.meta.url).pathname;
  pebble = track(spawn(`${bin}${readdirSync(bin).find((f) => f.startsWith('pebble'))}`, ['-config', at('pebble.json'), '-dnsserver', server], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, PEBBLE_VA_NOSLEEP: '1' } }));
  await until(() => ask('https://127.0.0.1:15000/roots/0').then((pem) => (root = pem)).catch(() => false), () => `pebble: ${pebble.output}`);
  gateway = await new Gateway(`${config({ routes: '  - {name: all, to: [visit]}' }).replace('"http://127.0.0.1:18080"', '"https://visit.test:18080"')}
tls: {acme: true, acme_directory: "https://127.0.0.1:14000/dir", acme_ca_file: ${at('ca.pem')}}`).start();
}

after(async () => {
  await endAll();
  dropHospital();
});

/** The certificate that a browser sees, if it is one to be trusted. */
const shown = (servername) => new Promise((resolve) => {
  const s = tls.connect({ host: '127.0.0.1', port: 18080, servername, ca: root }, () => { resolve(s.getPeerCertificate()); s.destroy(); });
  s.on('error', () => resolve(null));
});

test('RFC 8555, RFC 8737: the gateway gets its certificate on its own port, shows it, and keeps it', async () => {
  const first = await until(() => shown('visit.test'), () => gateway.child.output, 30_000);
  assert.equal(first.subjectaltname, 'DNS:visit.test');
  assert.ok(await gateway.metric('sipbridge_certificate_expires_seconds') > 3600);
  await gateway.stop();
  await gateway.start();
  const second = await until(() => shown('visit.test'), () => gateway.child.output);
  assert.equal(second.serialNumber, first.serialNumber, 'it was kept');
});

test('a name that is not ours gets no certificate', async () => {
  assert.equal(await shown('other.test'), null);
});

test('it is renewed in time: nobody is shown one that has expired', async () => {
  await starts(100);
  const first = await until(() => shown('visit.test'), () => gateway.child.output, 30_000);
  const next = await until(async () => {
    const now = await shown('visit.test');
    assert.ok(now && Date.parse(now.valid_to) >= Date.now(), `shown: ${now?.valid_to ?? 'none'}, at ${new Date().toUTCString()}`);
    return now.serialNumber !== first.serialNumber && now;
  }, () => gateway.child.output, 100_000);
  assert.ok(Date.parse(next.valid_to) > Date.parse(first.valid_to));
  assert.match(gateway.child.output, /the authority has given a certificate.*renewal=true/);
});
