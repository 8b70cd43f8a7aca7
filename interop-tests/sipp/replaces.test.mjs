// Who has talked to the other side first, transfers: the new dialog takes the place of
// an old one (RFC 3891, RFC 5589 §7). Two telephones of single messages, and a patient
// that echoes.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { makeHospital, dropHospital, endAll, track, until, sleep } from '../lib/net.mjs';
import { Gateway, binary, config } from '../lib/gateway.mjs';
import { Raw } from '../lib/raw.mjs';
import { launch, Patient } from '../lib/page.mjs';

const trunks = '  desk: {address: "sip:127.0.0.1:15098", options_every: 0s}';
const routes = `  - {name: to patients, when: 'call.to.user.matches("^7[0-9]{6}$")', to: [visit], codecs: [PCMU]}
  - {name: to the desk, when: 'call.trunk == "desk"', to: [trunk:desk]}`; // whoever calls from 127.0.0.1

let gateway, code;

before(async () => {
  makeHospital();
  gateway = await new Gateway(config({ routes, trunks })).start();
  const inv = await gateway.invite('sip:1000@hospital');
  const patient = track(spawn(binary, ['load', 'patient', inv.url], { stdio: ['ignore', 'pipe', 'pipe'] }));
  await until(() => patient.output.includes('welcome'), () => patient.output);
  code = inv.dial_code;
});

after(async () => {
  await endAll();
  dropHospital();
});

const over = () => until(async () => (await gateway.calls()).length === 0, 'no call to be left');
let calls = 0;
const dialog = (to = code) => ({ id: `call${process.pid}x${++calls}`, tag: `a${calls}`, to });

test('an INVITE with Replaces takes the place of the telephone that talks to the patient', async (t) => {
  const raw = await Raw.open(t, 15099);
  const first = dialog();
  await raw.call(first);
  const refused = async (value, status) => {
    const d = dialog();
    raw.request('INVITE', d, { headers: [`Replaces: ${value}`] });
    await raw.hears(d.id, new RegExp(`^SIP/2\\.0 ${status}`));
    raw.request('ACK', d);
  };
  await refused(`${first.id};to-tag=${first.remote};from-tag=other`, 481);
  await refused(`${first.id};to-tag=${first.remote}`, 400);
  await refused(`${first.id};to-tag=${first.remote};from-tag=${first.tag};early-only`, 486);
  const second = dialog();
  const ok = await raw.call(second, [`Replaces: ${first.id};to-tag=${first.remote};from-tag=${first.tag}`, 'Require: replaces']);
  raw.answer(await raw.hears(first.id, /^BYE /), 200);
  assert.equal((await gateway.calls()).length, 1);
  const before = raw.packets;
  for (let n = 0; n < 25; n++) { raw.say(ok, n); await sleep(20); }
  await until(() => raw.packets > before + 15, () => `${raw.packets - before} packets of the echo`, 3000);
  await raw.bye(second);
  await over();
});

test('a REFER with Replaces has the far end replace the dialog that it names', async (t) => {
  const raw = await Raw.open(t, 15099);
  const desk = await Raw.open(t, 15098);
  const d = dialog();
  await raw.call(d);
  raw.request('REFER', d, { headers: ['Refer-To: <sip:3000@127.0.0.1?Replaces=abc%40pbx%3Bto-tag%3D1%3Bfrom-tag%3D2>'] });
  await raw.hears(d.id, /^SIP\/2\.0 202/);
  raw.answer(await raw.hears(d.id, /^NOTIFY [^]*SIP\/2\.0 100 Trying/), 200);
  const invite = await desk.hears('', /^INVITE sip:3000@/);
  assert.match(invite, /^Replaces: abc@pbx;to-tag=1;from-tag=2\r$/m);
  assert.match(invite, /^Require: replaces\r$/m);
  desk.answer(invite, 200, { tag: 'desk', sdp: true });
  raw.answer(await raw.hears(d.id, /^NOTIFY [^]*SIP\/2\.0 200/), 200);
  raw.answer(await raw.hears(d.id, /^BYE /), 200);
  assert.equal((await gateway.calls()).length, 1);
  const [call] = await gateway.calls();
  await gateway.api('DELETE', `/api/v1/calls/${call.id}`);
  desk.answer(await desk.hears('', /^BYE /), 200);
  await over();
});

test('RFC 3261 §8.1.3.5: who knows no Replaces is called beside the dialog that was to be replaced', async (t) => {
  const raw = await Raw.open(t, 15099);
  const desk = await Raw.open(t, 15098);
  const d = dialog();
  await raw.call(d);
  raw.request('REFER', d, { headers: ['Refer-To: <sip:3000@127.0.0.1?Replaces=abc%40pbx%3Bto-tag%3D1%3Bfrom-tag%3D2>'] });
  desk.answer(await desk.hears('', /^INVITE sip:3000@[^]*^Replaces: /m), 420, { tag: 'old', headers: ['Unsupported: replaces'] });
  await desk.hears('', /^ACK /);
  const invite = await desk.hears('', /^INVITE sip:3000@/);
  assert.doesNotMatch(invite, /^Re(places|quire): /m);
  desk.answer(invite, 200, { tag: 'desk', sdp: true });
  raw.answer(await raw.hears(d.id, /^NOTIFY [^]*SIP\/2\.0 100/), 200);
  raw.answer(await raw.hears(d.id, /^NOTIFY [^]*SIP\/2\.0 200/), 200);
  raw.answer(await raw.hears(d.id, /^BYE /), 200);
  const [call] = await gateway.calls();
  await gateway.api('DELETE', `/api/v1/calls/${call.id}`);
  desk.answer(await desk.hears('', /^BYE /), 200);
  await over();
});

test('a REFER with Replaces that names another call through us is mapped to the dialog behind it', async (t) => {
  const raw = await Raw.open(t, 15099);
  const desk = await Raw.open(t, 15098);
  const patient = dialog();
  await raw.call(patient);
  const consult = dialog('3000');
  const consulting = raw.call(consult);
  const rung = await desk.hears('', /^INVITE sip:3000@/);
  desk.answer(rung, 200, { tag: 'desk1', sdp: true });
  await consulting;
  await until(async () => (await gateway.calls()).length === 2, 'two calls');
  const theirs = encodeURIComponent(`${consult.id};to-tag=${consult.remote};from-tag=${consult.tag}`);
  raw.request('REFER', patient, { headers: [`Refer-To: <sip:3000@127.0.0.1?Replaces=${theirs}>`] });
  await raw.hears(patient.id, /^SIP\/2\.0 202/);
  const invite = await desk.hears('', /^INVITE [^]*^Replaces: /m);
  const [, id, to, from] = invite.match(/^Replaces: (.*);to-tag=(.*);from-tag=(.*)\r$/m);
  assert.equal(id, rung.match(/^Call-ID: *(\S+)/mi)[1]);
  assert.equal(to, 'desk1');
  assert.equal(from, rung.match(/^From: .*tag=(\S+)/mi)[1]);
  desk.answer(invite, 200, { tag: 'desk2', sdp: true });
  raw.answer(await raw.hears(patient.id, /^NOTIFY [^]*SIP\/2\.0 100/), 200);
  raw.answer(await raw.hears(patient.id, /^NOTIFY [^]*SIP\/2\.0 200/), 200);
  raw.answer(await raw.hears(patient.id, /^BYE /), 200);
  await raw.bye(consult);
  desk.answer(await desk.hears(id, /^BYE /), 200);
  for (const call of await gateway.calls()) await gateway.api('DELETE', `/api/v1/calls/${call.id}`);
  desk.answer(await desk.hears('', /^BYE /), 200);
  await over();
});

test('a REFER with Replaces that names a call with another patient joins the two pages', async (t) => {
  const raw = await Raw.open(t, 15099);
  const browser = await launch();
  t.after(() => browser.close());
  const reached = async () => {
    const inv = await gateway.invite('sip:1000@hospital');
    const page = await Patient.open(t, browser, inv.url);
    await page.reach('lobby');
    const call = dialog(inv.dial_code);
    const talking = raw.call(call);
    await page.page.waitForSelector('#decline:visible');
    await page.join();
    await talking;
    await page.reach('connected');
    return { page, call };
  };
  const patient = await reached(), daughter = await reached();
  assert.ok((await patient.page.hear()).db < -60, 'nobody speaks yet');
  const theirs = encodeURIComponent(`${daughter.call.id};to-tag=${daughter.call.remote};from-tag=${daughter.call.tag}`);
  raw.request('REFER', patient.call, { headers: [`Refer-To: <sip:${daughter.call.to}@127.0.0.1?Replaces=${theirs}>`] });
  await raw.hears(patient.call.id, /^SIP\/2\.0 202/);
  raw.answer(await raw.hears(patient.call.id, /^NOTIFY [^]*SIP\/2\.0 100/), 200);
  raw.answer(await raw.hears(patient.call.id, /^NOTIFY [^]*SIP\/2\.0 200/), 200);
  raw.answer(await raw.hears(patient.call.id, /^BYE /), 200);
  raw.answer(await raw.hears(daughter.call.id, /^BYE /), 200);
  await until(async () => (await gateway.calls()).length === 1, 'one call');
  for (const { page } of [patient, daughter]) {
    await page.reach('connected');
    const { hz, db } = await page.hear();
    assert.ok(Math.abs(hz - 1000) < 20 && db > -30, `it hears ${hz.toFixed(0)} Hz at ${db.toFixed(1)} dB`);
  }
  await daughter.page.page.click('#hangup');
  await patient.page.reach('ended');
  await over();
});
