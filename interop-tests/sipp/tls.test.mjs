// SIP over TLS, towards a PBX and from it (RFC 3261 §26.3.1, RFC 5922).
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import tls from 'node:tls';
import { at, authority, certificate, dir } from '../lib/certificates.mjs';
import { server, serves } from '../lib/dns.mjs';
import { makeHospital, dropHospital, startPBX, endAll, inHospital, until } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { answering, passes, sipp } from '../lib/sipp.mjs';

let gateway, browser;

const trunk = (name, address, ca) => `  ${name}: {address: "sip:${address};transport=tls", interface: pbx, options_every: 0s, ca_file: ${at(ca)}, mutual: true}`;

before(async () => {
  for (const ca of ['ca', 'other']) authority(ca);
  certificate('pbx', 'ca', '10.77.0.2', 'hospital.test', 'pbx.hospital.test');
  certificate('gateway', 'ca', '10.77.0.1');
  certificate('imposter', 'other', '10.77.0.4');
  certificate('misnamed', 'ca', '10.77.0.3');
  makeHospital();
  await startPBX(dir);
  await serves('srv-host=_sips._tcp.hospital.test,pbx.hospital.test,5061,0,1', 'address=/pbx.hospital.test/10.77.0.2',
    'srv-host=_sips._tcp.clinic.test,pbx.hospital.test,5061,0,1');
  gateway = await new Gateway(`${config({
    routes: `  - {name: patients by TLS, when: 'call.source == "browser" && call.to.user == "tls"', to: [trunk:tls/3000]}
  - {name: to another authority's, when: 'call.source == "browser" && call.to.user == "imposter"', to: [trunk:imposter/3000]}
  - {name: to the domain, when: 'call.source == "browser" && call.to.user == "domain"', to: [trunk:domain/3000]}
  - {name: to the false domain, when: 'call.source == "browser" && call.to.user == "clinic"', to: [trunk:clinic/3000]}
  - {name: to another name's, when: 'call.source == "browser"', to: [trunk:misnamed/3000]}
  - {name: telephones to patients, when: 'call.source != "browser"', to: [visit]}`,
    // The authority of one trunk says nothing of another: other's is known, too.
    trunks: [trunk('tls', '10.77.0.2', 'ca.pem'), trunk('imposter', '10.77.0.4:5071', 'ca.pem'), trunk('misnamed', '10.77.0.4:5072', 'ca.pem'), trunk('elsewhere', '10.77.0.9', 'other.pem'),
      ...['hospital', 'clinic'].map((d) => `  ${d === 'hospital' ? 'domain' : d}: {address: "sips:${d}.test", interface: pbx, options_every: 0s, ca_file: ${at('ca.pem')}, mutual: true}`)].join('\n'), sip: `  nameserver: ${server}`,
  }).replace('listen: "127.0.0.1:18080"', 'listen: "http://127.0.0.1:18080"').replace('"udp://127.0.0.1:15060"', '"udp://127.0.0.1:15060", "tls://10.77.0.1:5061"').replace(/ {2}pbx: .*\n/, '')}
tls: {cert_file: ${at('gateway.pem')}, key_file: ${at('gateway.key')}}`).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

test('a patient calls the ward over TLS, from the INVITE to the BYE', async (t) => {
  const ward = await answering('uas-until-bye.xml');
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:tls@hospital')).url);
  await patient.join();
  await patient.reach('connected');
  await patient.page.click('#hangup');
  await passes(ward);
});

test('RFC 3261 §26.2.2, RFC 3263 §4.1: a sips: domain is found by its SRV record, and called over TLS all the way', async (t) => {
  const ward = await answering('uas-until-bye.xml');
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:domain@hospital')).url);
  await patient.join();
  await patient.reach('connected');
  assert.match(ward.messages(), /^INVITE sips:3000@hospital\.test/m);
  assert.match(ward.messages(), /^Contact: <sips:[^>]*10\.77\.0\.1:5061/m);
  await patient.page.click('#hangup');
  await passes(ward);
});

test('RFC 5922 §7.2: a record that leads to a host whose certificate does not name the domain gets no call', async (t) => {
  const before = gateway.records().length;
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:clinic@hospital')).url);
  await patient.join();
  await patient.reach('ended');
  await until(() => gateway.records().length > before, 'the record');
  assert.equal(gateway.records().at(-1).cause.status, 503);
});

test('a PBX calls a patient over TLS, and shows its certificate', async (t) => {
  const inv = await gateway.invite('sip:1000@hospital');
  const patient = await Patient.open(t, browser, inv.url);
  await patient.reach('lobby');
  const phone = sipp('uac-short.xml', { service: `8${inv.dial_code}`, target: '10.77.0.2:5060' });
  await patient.page.waitForSelector('#decline:visible');
  await patient.join();
  await patient.reach('connected');
  await passes(phone);
});

for (const [name, port, what] of [['imposter', 5071, 'another authority\'s'], ['misnamed', 5072, 'for another name']]) {
  test(`a PBX whose certificate is ${what} gets no call`, async (t) => {
    const server = inHospital('openssl', ['s_server', '-accept', `10.77.0.4:${port}`, '-cert', at(`${name}.pem`), '-key', at(`${name}.key`)], { stdio: ['pipe', 'pipe', 'pipe'] });
    await until(() => server.output.includes('ACCEPT'), () => server.output);
    const before = gateway.records().length;
    const patient = await Patient.open(t, browser, (await gateway.invite(`sip:${name}@hospital`)).url);
    await patient.join();
    await patient.reach('ended');
    await until(() => gateway.records().length > before, 'the record');
    assert.equal(gateway.records().at(-1).cause.status, 503);
    await until(() => /alert/i.test(server.output), () => `the gateway to say what is wrong: ${server.output}`);
    server.end();
    await server.over;
    assert.doesNotMatch(server.output, /INVITE/);
  });
}

test('a trunk that is mutual and shows no certificate is not listened to', async () => {
  const client = inHospital('openssl', ['s_client', '-connect', '10.77.0.1:5061', '-bind', '10.77.0.2:0', '-CAfile', at('ca.pem')], { stdio: ['pipe', 'pipe', 'pipe'] });
  client.stdin.write('OPTIONS sip:x@10.77.0.1 SIP/2.0\r\n\r\n');
  await until(() => /alert certificate required/.test(client.output), () => client.output, 5000);
  client.end();
  await client.over;
});

/** What becomes of a TLS client that says hello from an address. */
const hello = (options) => new Promise((resolve) => {
  const s = tls.connect({ host: '10.77.0.1', port: 5061, ca: readFileSync(at('ca.pem')), checkServerIdentity: () => undefined, ...options });
  s.on('secureConnect', () => setTimeout(() => s.write('OPTIONS sip:x SIP/2.0\r\n\r\n'), 50));
  s.on('error', (e) => resolve(e.code ?? e.message));
  s.on('close', () => resolve('closed'));
  setTimeout(() => { s.destroy(); resolve('silent'); }, 2000);
});

test('who is no trunk comes to no handshake', async () => {
  const before = await gateway.metric('sipbridge_sip_strangers_total');
  assert.notEqual(await hello({}), 'silent');
  assert.ok(await gateway.metric('sipbridge_sip_strangers_total') > before);
});
