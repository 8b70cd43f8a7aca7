// PBXs that want to know who calls (RFC 3261 §22, RFC 8760).
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeHospital, dropHospital, startPBX, endAll } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { answering, passes } from '../lib/sipp.mjs';

const dir = mkdtempSync(join(tmpdir(), 'sipbridge-digest-'));
const secret = join(dir, 'password');
writeFileSync(secret, 'w4rd\n');
const wrong = join(dir, 'wrong');
writeFileSync(wrong, 'ward');

const trunk = (name, address, file, more = '') => `  ${name}: {address: "${address}", interface: pbx, options_every: 0s, username: gateway, password_file: ${file}${more}}`;
const trunks = [trunk('sipp', 'sip:10.77.0.4:5060', secret), trunk('kamailio', 'sip:10.77.0.2:5070', secret), trunk('kamailio-wrong', 'sip:10.77.0.2:5070', wrong),
  trunk('elsewhere', 'sip:10.77.0.4:5060', secret, ', realm: hospital.example')].join('\n');
const routes = ['sipp/1000', 'kamailio/3000', 'kamailio-wrong/3000', 'elsewhere/1000', 'ward/1000'].map((to) =>
  `  - {name: ${to}, when: 'call.to.user == "${to.split('/')[0]}"', to: [trunk:${to}]}`).join('\n');

let gateway, browser;

before(async () => {
  makeHospital();
  await startPBX();
  gateway = await new Gateway(config({ routes, trunks, pbx: 'dtmf: rfc4733' })).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

/** A patient who calls through a trunk. */
async function calls(t, name) {
  const patient = await Patient.open(t, browser, (await gateway.invite(`sip:${name}@hospital`)).url);
  await patient.join();
  return patient;
}

test('a PBX with MD5: each request is answered for, a stale nonce too, and the ACK bears what the INVITE did', async (t) => {
  const ward = await answering('uas-digest.xml');
  const patient = await calls(t, 'sipp');
  await patient.reach('connected');
  await patient.page.click('#hangup');
  await passes(ward);
});

test('Kamailio with SHA-256, from the INVITE to the BYE', async (t) => {
  const ward = await answering('uas-until-bye.xml');
  const patient = await calls(t, 'kamailio');
  await patient.reach('connected');
  await patient.page.click('#hangup');
  await passes(ward);
});

test('Kamailio refuses a wrong password: the patient is told that the call was not possible', async (t) => {
  const patient = await calls(t, 'kamailio-wrong');
  await patient.reach('ended');
  assert.equal(gateway.records().at(-1).cause.status, 503);
});

for (const [name, why, realm, answered] of [
  ['sipp', 'a challenge is answered once, not for ever', 'hospital.example', true],
  ['elsewhere', 'a realm that is not the trunk\'s gets no digest', 'stranger.example', false],
  ['ward', 'nor does a trunk without a username', 'hospital.example', false],
]) {
  test(why, async (t) => {
    const again = `  <recv request="INVITE"><action><ereg regexp="Digest" search_in="hdr" header="Authorization:" check_it="true" assign_to="1"/></action></recv>
  <send><![CDATA[
SIP/2.0 401 Unauthorized
[last_Via:]
[last_From:]
[last_To:];tag=[pid]d[call_number]
[last_Call-ID:]
[last_CSeq:]
WWW-Authenticate: Digest realm="${realm}", nonce="m", algorithm=MD5, qop="auth"
Content-Length: 0

]]></send>
  <recv request="ACK"/>
  <Reference variables="1"/>`;
    const ward = await answering('uas-challenge.xml', { fill: { REALM: realm, ANSWERED: answered ? again : '' } });
    const patient = await calls(t, name);
    await patient.reach('ended');
    await passes(ward);
    assert.equal((ward.messages().match(/^INVITE /gm) ?? []).length, answered ? 2 : 1);
  });
}
