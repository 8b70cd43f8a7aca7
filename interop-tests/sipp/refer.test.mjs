// A ward transfers its patient to another telephone (RFC 3515, RFC 5589 §6).
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { makeHospital, dropHospital, startPBX, endAll, until, sleep } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { Telephone } from '../lib/baresip.mjs';
import { answering, passes } from '../lib/sipp.mjs';

const routes = `  - {name: patients to the ward behind the PBX, when: 'call.source == "browser"', to: [trunk:pbx], codecs: [PCMA]}`;

let gateway, browser;

before(async () => {
  makeHospital();
  await startPBX();
  gateway = await new Gateway(config({ routes })).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

const ok = `<![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]>`;
const bye = `  <send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
[routes]
From: <[$3]>;tag=[pid]u[call_number]
To: <[$2]>;tag=[$1]
Call-ID: [call_id]
CSeq: 3 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>`;

/** It takes what it is told, until the gateway hangs up. */
const listens = `  <label id="1"/>
  <recv request="NOTIFY" optional="true" next="2"/>
  <recv request="BYE" timeout="20000" next="3"/>
  <label id="2"/>
  <send next="1">${ok}</send>
  <label id="3"/>
  <send>${ok}</send>`;

/** It hangs up when it hears that the other telephone rings. */
const leaves = `  <recv request="NOTIFY"/>
  <send>${ok}</send>
  <recv request="NOTIFY"/>
  <send>${ok}</send>
${bye}
  <recv response="200" timeout="5000"/>`;

async function transferred(t, to, then, status = 202) {
  const ward = await answering('uas-refer.xml', { fill: { TO: to, STATUS: String(status), THEN: then } });
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:3000@hospital')).url);
  await patient.join();
  await patient.reach('connected');
  await patient.reach('held');
  return { ward, patient };
}

const sipfrags = (ward) => [...ward.messages().matchAll(/NOTIFY [^]*?message\/sipfrag[^]*?\n\r?\nSIP\/2\.0 (\d+)/g)].map((m) => m[1]);

for (const [name, then, mode] of [['and waits until it hears of it', listens, 'auto'], ['and hangs up while that telephone still rings', leaves, 'manual']]) {
  test(`a ward transfers the patient ${name}: the other telephone is heard, and the page never leaves the call`, async (t) => {
    const phone = await new Telephone('1001', 'PCMA', undefined, mode).start(t);
    const { ward, patient } = await transferred(t, '1001@10.77.0.2', then);
    if (mode === 'manual') {
      await passes(ward);
      assert.equal((await gateway.calls())[0].state, 'transferring');
      phone.command('accept');
    }
    await patient.reach('connected');
    await passes(ward);
    await until(async () => (await gateway.calls())[0]?.legs[1].peer.endsWith('/1001'), 'the other telephone to be in the call');
    await sleep(2500);
    const heard = await patient.hear();
    assert.ok(Math.abs(heard.hz - 1000) <= 6 && heard.db > -20, `the patient hears ${heard.hz} Hz, ${heard.db} dB`);
    const back = phone.listen();
    assert.ok(Math.abs(back.hz - 1000) <= 6 && back.db > -20, `the telephone hears ${back.hz} Hz, ${back.db} dB`);
    if (then === listens) {
      const list = sipfrags(ward);
      assert.deepEqual([list[0], list.at(-1)], ['100', '200'], list.join(' '));
    }
    await patient.page.click('#hangup');
    await until(async () => (await gateway.calls()).length === 0, 'the call to end');
    assert.deepEqual(patient.errors, []);
  });
}

test('a transfer to a number that is not there: the ward is told, and has the patient back', async (t) => {
  const { ward, patient } = await transferred(t, '9999@10.77.0.2', listens);
  await until(() => sipfrags(ward).at(-1) === '404', () => `the ward to be told: ${sipfrags(ward)}`);
  const [{ state, legs }] = await gateway.calls();
  assert.equal(legs[1].peer, 'pbx/3000', state);
  await patient.page.click('#hangup');
  await passes(ward);
});

test('a transfer that names no whole dialog is refused, and the call goes on', async (t) => {
  const { ward, patient } = await transferred(t, '1001@10.77.0.2?Replaces=a%3Bto-tag%3Db', listens, 400);
  await sleep(500);
  assert.equal((await gateway.calls()).length, 1);
  await patient.page.click('#hangup');
  await passes(ward);
});
