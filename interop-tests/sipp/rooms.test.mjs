// Rooms register with the gateway, the gateway registers with a PBX, and whoever
// asks for too much, or is nobody, is held off. A telephone of single messages
// stands for rooms and for strangers; baresip is a real room, Kamailio the PBX.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import net from 'node:net';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeHospital, dropHospital, startPBX, endAll, until, sleep } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { Telephone } from '../lib/baresip.mjs';
import { Caller } from '../lib/scenario.mjs';
import { sipp, passes } from '../lib/sipp.mjs';
import { Raw } from '../lib/raw.mjs';

const dir = mkdtempSync(join(tmpdir(), 'sipbridge-rooms-'));
for (const [name, secret] of [['theatre2', 'sc4lpel'], ['icu', 'dr1p'], ['gateway', 'w4rd']]) writeFileSync(join(dir, name), `${secret}\n`);

const routes = `  - {name: to patients, when: 'call.to.user.matches("^7[0-9]{6}$")', to: [visit]}
  - {name: from the pbx to a room, when: 'call.to.user == "gateway"', to: ["room:theatre2"]}
  - {name: to the particular, when: 'call.to.user == "4711"', to: ["trunk:particular"]}
  - {name: to rooms, when: 'call.source == "browser" || call.source == "room" && call.to.user != "secret"', to: [room]}`;
const rooms = `rooms:
  theatre2: {password_file: ${dir}/theatre2, interface: pbx, digest: [MD5]} # baresip 1.0 gives up on a challenge with SHA-256
  icu: {password_file: ${dir}/icu, options_every: 0s}`;
const trunks = `  registrar: {address: "sip:10.77.0.2:5070", interface: pbx, options_every: 0s, username: gateway, password_file: ${dir}/gateway, register: 60s}
  picky: {address: "sip:127.0.0.7:15098", options_every: 0s, username: gateway, password_file: ${dir}/gateway, challenge: true}
  particular: {address: "sip:127.0.0.8:15097", options_every: 0s, username: gateway, password_file: ${dir}/gateway, register: 60s}
${rooms}`;

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

let n = 0;
const dialog = (to, more = {}) => ({ id: `rooms${++n}`, tag: `t${n}`, to, ...more });
const asRoom = (name, more = {}) => dialog(name, { contact: 'sip:127.0.0.1:15060', ...more });
const refused = async (reason) => {
  const text = await (await fetch('http://127.0.0.1:19090/metrics')).text();
  return Number(text.match(new RegExp(`^sipbridge_sip_refused_total{reason="${reason}"} (\\d+)`, 'm'))?.[1] ?? 0);
};
const contacts = async (name) => (await gateway.api('GET', '/api/v1/trunks')).filter((t) => t.name === `room:${name}`);

/** Calls a number as a patient's page would, and returns the page. */
async function patientCalls(t, number) {
  const patient = await Patient.open(t, browser, (await gateway.invite(`sip:${number}@hospital`)).url);
  await patient.reach('lobby');
  await patient.join();
  return patient;
}

test('RFC 3261 §10.3: a room registers, asks where it is, and leaves', async (t) => {
  const room = await Raw.open(t, 15071, { host: '127.0.0.2', name: 'icu' });
  const d = asRoom('icu');
  const ok = await room.proves('REGISTER', d, 'dr1p', { headers: ['Expires: 120'] });
  assert.match(ok, /^SIP\/2\.0 200/);
  assert.match(ok, /^Contact: <sip:icu@127\.0\.0\.2:15071>;expires=120\r$/m);
  const asks = await room.proves('REGISTER', asRoom('icu'), 'dr1p', { headers: ['Contact: <sip:icu@192.0.2.9>;expires=600', 'Expires: 7200'], algorithm: 'MD5' });
  assert.match(asks, /^Contact: <sip:icu@127\.0\.0\.2:15071>;expires=1[12]\d\r$/m);
  assert.match(asks, /^Contact: <sip:icu@192\.0\.2\.9>;expires=600\r$/m);
  assert.equal((await contacts('icu')).length, 2);
  const gone = await room.proves('REGISTER', asRoom('icu'), 'dr1p', { headers: ['Contact: *', 'Expires: 0'] });
  assert.match(gone, /^SIP\/2\.0 200/);
  assert.ok(!gone.includes('Contact:'));
  assert.equal((await contacts('icu'))[0].state, 'not registered');
});

test('RFC 3261 §10.3: too short is 423, a wildcard beside others 400, an older request 500', async (t) => {
  const room = await Raw.open(t, 15071, { host: '127.0.0.2', name: 'icu' });
  assert.match(await room.proves('REGISTER', asRoom('icu'), 'dr1p', { headers: ['Expires: 30'] }), /^SIP\/2\.0 423[^]*Min-Expires: 60/);
  assert.match(await room.proves('REGISTER', asRoom('icu'), 'dr1p', { headers: ['Contact: *', 'Expires: 60'] }), /^SIP\/2\.0 400/);
  const d = asRoom('icu', { cseq: 100 });
  assert.match(await room.proves('REGISTER', d, 'dr1p'), /^SIP\/2\.0 200/);
  d.cseq = 90;
  assert.match(await room.proves('REGISTER', d, 'dr1p'), /^SIP\/2\.0 500/);
  assert.match(await room.proves('REGISTER', asRoom('icu'), 'dr1p', { headers: ['Expires: 0'] }), /^SIP\/2\.0 200/);
});

test('RFC 7616 §3.3, §3.4: a nonce is good for who got it, once for each count; a wrong password is 403', async (t) => {
  const room = await Raw.open(t, 15071, { host: '127.0.0.3', name: 'icu' });
  assert.match(await room.proves('REGISTER', asRoom('icu'), 'wrong'), /^SIP\/2\.0 403/);
  assert.match(await room.proves('REGISTER', asRoom('icu'), 'dr1p'), /^SIP\/2\.0 200/);
  const old = room.challenge;
  const again = async (who, nc) => {
    const d = asRoom('icu');
    who.request('REGISTER', d, { headers: [who.credentials(old, 'REGISTER', d.contact, 'dr1p', { nc })] });
    return who.hears(d.id, /^SIP/);
  };
  assert.match(await again(room, 1), /^SIP\/2\.0 401[^]*stale=true/, 'a count that was used');
  assert.match(await again(room, 2), /^SIP\/2\.0 200/, 'the next');
  const thief = await Raw.open(t, 15072, { host: '127.0.0.4', name: 'icu' });
  assert.match(await again(thief, 3), /^SIP\/2\.0 401/, 'from another address');
  assert.doesNotMatch(old.match(/^WWW-.*$/mg).join(), /icu|dr1p/, 'a challenge tells nothing');
  assert.match(await room.proves('REGISTER', asRoom('icu'), 'dr1p', { headers: ['Contact: *', 'Expires: 0'] }), /^SIP\/2\.0 200/);
});

test('RFC 3261 §16.6: all contacts of a room ring, the first that answers has the call, the others are cancelled', async (t) => {
  const a = await Raw.open(t, 15071, { host: '127.0.0.2', name: 'icu' });
  const b = await Raw.open(t, 15072, { host: '127.0.0.2', name: 'icu' });
  for (const r of [a, b]) assert.match(await r.proves('REGISTER', asRoom('icu'), 'dr1p'), /^SIP\/2\.0 200/);
  const patient = await patientCalls(t, 'icu');
  const [ia, ib] = await Promise.all([a, b].map((r) => r.hears('', /^INVITE sip:icu@127\.0\.0\.2:1507/)));
  a.answer(ia, 180, { tag: 'a' });
  b.answer(ib, 180, { tag: 'b' });
  await patient.reach('ringing');
  b.answer(ib, 200, { tag: 'b', sdp: true });
  await patient.reach('connected');
  const cancel = await a.hears('', /^CANCEL/);
  a.answer(cancel, 200, { tag: 'a' });
  a.answer(ia, 487, { tag: 'a' });
  await b.hears('', /^ACK/);
  await patient.page.click('#hangup');
  const bye = await b.hears('', /^BYE/);
  b.answer(bye, 200);
  for (const r of [a, b]) await r.proves('REGISTER', asRoom('icu'), 'dr1p', { headers: ['Contact: *', 'Expires: 0'] });
});

test('RFC 3327 §5: what stands in Path is gone through on the way to the room', async (t) => {
  const room = await Raw.open(t, 15071, { host: '127.0.0.2', name: 'icu' });
  const ok = await room.proves('REGISTER', asRoom('icu'), 'dr1p', { headers: ['Path: <sip:edge@127.0.0.2:15071;lr>', 'Supported: path', 'Contact: <sip:icu@192.0.2.9>'] });
  assert.match(ok, /^Path: <sip:edge@127\.0\.0\.2:15071;lr>\r$/m);
  const patient = await patientCalls(t, 'icu');
  const invite = await room.hears('', /^INVITE sip:icu@192\.0\.2\.9 /);
  assert.match(invite, /^Route: <sip:edge@127\.0\.0\.2:15071;lr>\r$/m);
  room.answer(invite, 486, { tag: 'x' });
  await patient.reach('ended');
  await room.proves('REGISTER', asRoom('icu'), 'dr1p', { headers: ['Contact: *', 'Expires: 0'] });
});

test('RFC 3581: a room behind a NAT is reached where it registered from, whatever its Contact says, to the end of the call', async (t) => {
  const room = await Raw.open(t, 15071, { host: '127.0.0.2', name: 'icu' });
  const headers = ['Contact: <sip:icu@192.0.2.9:5060>'];
  assert.match(await room.proves('REGISTER', asRoom('icu'), 'dr1p', { headers }), /^SIP\/2\.0 200/);
  const patient = await patientCalls(t, 'icu');
  const invite = await room.hears('', /^INVITE sip:icu@192\.0\.2\.9:5060 /);
  room.answer(invite, 200, { tag: 'nat', sdp: true, headers });
  await room.hears('', /^ACK sip:icu@192\.0\.2\.9:5060 /);
  await patient.reach('connected');
  await patient.page.click('#hangup');
  room.answer(await room.hears('', /^BYE sip:icu@192\.0\.2\.9:5060 /), 200);
  await room.proves('REGISTER', asRoom('icu'), 'dr1p', { headers: ['Contact: *', 'Expires: 0'] });
});

test('a room that is not registered is not there', async (t) => {
  const patient = await patientCalls(t, 'theatre2');
  await patient.reach('ended');
  assert.equal(gateway.records().pop().cause.status, 480);
});

test('baresip is a room: it registers, is called by a patient, calls one, and is found again after a crash', async (t) => {
  const phone = await new Telephone('theatre2', 'PCMA', undefined, 'auto', '', { registrar: '10.77.0.1', password: 'sc4lpel' }).start(t);
  await until(async () => (await contacts('theatre2'))[0].address.includes('10.77.0.3'), () => phone.child.output);
  await until(async () => (await contacts('theatre2'))[0].state === 'up', 'the room to answer OPTIONS');
  const hears = async (patient) => {
    await sleep(2500);
    for (const m of [await patient.hear(), phone.listen()]) assert.ok(Math.abs(m.hz - 1000) <= 6 && m.db > -20, `${m.hz} Hz, ${m.db} dB`);
  };
  const first = await patientCalls(t, 'theatre2');
  await first.reach('connected');
  await hears(first);
  await first.page.click('#hangup');
  const inv = await gateway.invite('sip:1000@hospital');
  const second = await Patient.open(t, browser, inv.url);
  await second.reach('lobby');
  await until(async () => (await gateway.calls()).length === 0, 'the first call to be over');
  phone.command('dial', `sip:${inv.dial_code}@10.77.0.1`);
  await second.page.waitForSelector('#decline:visible');
  await second.join();
  await second.reach('connected');
  const [call] = await gateway.calls();
  assert.equal(call.route, 'to patients');
  await second.page.click('#hangup');
  await until(async () => (await gateway.calls()).length === 0, 'the second call to be over');
  await gateway.stop('SIGKILL');
  await gateway.start();
  assert.ok((await contacts('theatre2'))[0].address.includes('10.77.0.3'), 'the registration outlived the process');
  const third = await patientCalls(t, 'theatre2');
  await third.reach('connected');
});

test('a room must prove each call, may go only where the policy lets it, and is nobody else', async (t) => {
  const room = await Raw.open(t, 15071, { host: '127.0.0.2', name: 'icu' });
  assert.match(await room.proves('REGISTER', asRoom('icu'), 'dr1p'), /^SIP\/2\.0 200/);
  const sdp = 'v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n';
  const tries = (to, how) => room.proves('INVITE', dialog(to), 'dr1p', { body: sdp, ...how });
  assert.match(await tries('secret'), /^SIP\/2\.0 404/);
  assert.match(room.challenge, /^SIP\/2\.0 401/);
  room.name = 'theatre2';
  assert.match(await tries('7000000', { algorithm: 'MD5' }), /^SIP\/2\.0 403/, 'it does not know the other room\'s password');
  room.name = 'director';
  assert.match(await tries('7000000'), /^SIP\/2\.0 403/, 'nobody by that name');
  room.name = 'icu';
  await room.proves('REGISTER', asRoom('icu'), 'dr1p', { headers: ['Contact: *', 'Expires: 0'] });
});

test('a trunk may be asked for a digest', async (t) => {
  const pbx = await Raw.open(t, 15098, { host: '127.0.0.7', name: 'pbx' });
  const d = dialog('5');
  pbx.request('INVITE', d, { body: 'v=0\r\nm=audio 40000 RTP/AVP 8\r\n' });
  const asked = await pbx.hears(d.id, /^SIP\/2\.0 401/);
  pbx.request('ACK', d);
  pbx.request('INVITE', d, { body: 'v=0\r\nm=audio 40000 RTP/AVP 8\r\n', headers: [pbx.credentials(asked, 'INVITE', d.contact, 'w4rd', { user: 'gateway' })] });
  await pbx.hears(d.id, /^SIP\/2\.0 404/);
});

test('strangers get silence; who speaks for a room is asked; who asks too often, or guesses, is not answered, and no trunk suffers', async (t) => {
  const stranger = await Raw.open(t, 15073, { host: '127.0.0.5', name: 'sipvicious' });
  for (const method of ['OPTIONS', 'INVITE', 'SUBSCRIBE']) stranger.request(method, dialog('100'));
  await sleep(700);
  assert.deepEqual(stranger.heard, []);
  assert.ok(await refused('stranger') >= 3);
  stranger.name = 'icu';
  const d = dialog('100');
  stranger.request('OPTIONS', d);
  await stranger.hears(d.id, /^SIP\/2\.0 401/);
  for (let i = 0; i < 10; i++) {
    await sleep(150); // slower than the limit on questions
    const answer = await stranger.proves('REGISTER', asRoom('icu'), `guess${i}`);
    assert.match(answer, /^SIP\/2\.0 403/);
  }
  stranger.heard = [];
  stranger.request('REGISTER', asRoom('icu'));
  await sleep(500);
  assert.deepEqual(stranger.heard, [], 'banned');
  assert.ok(await refused('banned') >= 1);
  const flood = await Raw.open(t, 15074, { host: '127.0.0.6', name: 'icu' });
  for (let i = 0; i < 300; i++) flood.request('REGISTER', asRoom('icu'));
  await until(async () => await refused('rate') >= 200, 'most of a flood to be dropped');
  assert.ok(flood.heard.length < 100, `${flood.heard.length} answers`);
  const trunk = await Raw.open(t, 15099);
  const alive = dialog('100');
  trunk.request('OPTIONS', alive);
  await trunk.hears(alive.id, /^SIP\/2\.0 200/);
});

test('RFC 3261 §10.2.8, RFC 3608 §5: the gateway registers for as long as it must, and calls by the way that it is told', async (t) => {
  const registrar = await Raw.open(t, 15097, { host: '127.0.0.8', name: 'registrar' });
  const asked = async (pattern) => registrar.hears('', pattern, 40_000);
  registrar.answer(await asked(/^REGISTER [^]*Expires: 60\r/), 423, { tag: 'r', headers: ['Min-Expires: 120'] });
  registrar.answer(await asked(/^REGISTER [^]*Expires: 120\r/), 200, { tag: 'r', headers: ['Expires: 120', 'Service-Route: <sip:gate@127.0.0.8:15097;lr>, <sip:inner@192.0.2.1;lr>'] });
  const patient = await patientCalls(t, '4711');
  const invite = await asked(/^INVITE sip:4711@127\.0\.0\.8/);
  assert.match(invite.replace(/\r\nRoute: /g, ', ').replace(/, </, '\r\nRoute: <'), /Route: <sip:gate@127\.0\.0\.8:15097;lr>, <sip:inner@192\.0\.2\.1;lr>/);
  registrar.answer(invite, 486, { tag: 'x' });
  await patient.reach('ended');
});

test('connections of strangers are few, from one address and from all; a trunk comes through', async (t) => {
  const all = [];
  t.after(() => all.forEach((s) => s.destroy()));
  const knocks = (host) => new Promise((resolve) => {
    const s = net.connect({ host: '10.77.0.1', port: 5060, localAddress: host });
    all.push(s);
    s.on('error', () => resolve(false));
    s.on('close', () => resolve(false));
    setTimeout(() => resolve(true), 300);
  });
  const one = await Promise.all(Array.from({ length: 40 }, () => knocks('127.0.0.9')));
  assert.equal(one.filter(Boolean).length, 16, 'of 40 connections of one stranger');
  const many = await Promise.all(Array.from({ length: 1200 }, (_, i) => knocks(`127.0.1.${1 + i % 100}`)));
  assert.equal(many.filter(Boolean).length, 1024 - 16, 'of 1200 connections of a hundred strangers');
  await passes(sipp(new Caller().says('INVITE', { sdp: 'v=0\nm=audio 9 RTP/AVP 8' }).hears(404).says('ACK').xml('a trunk'), { extra: ['-t', 't1'], service: 'nobody', seconds: 20 }));
});

test('the gateway registers with Kamailio, for as long as that wants, is called there, and takes its leave', async () => {
  const trunk = async () => (await gateway.api('GET', '/api/v1/trunks')).find((x) => x.name === 'registrar');
  await until(async () => (await trunk()).registration === 'registered', async () => JSON.stringify(await trunk()));
  await passes(sipp(new Caller().says('INVITE', { sdp: 'v=0\nm=audio 9 RTP/AVP 8' }).hears(480).says('ACK').xml('to wherever the gateway is'), { target: '10.77.0.2:5060', service: '2100', seconds: 20 }));
  assert.equal(gateway.records().pop().route, 'from the pbx to a room');
  await gateway.stop();
  await passes(sipp(new Caller().says('INVITE', { sdp: 'v=0\nm=audio 9 RTP/AVP 8' }).hears(480).says('ACK').xml('nobody'), { target: '10.77.0.2:5060', service: '2100', seconds: 20 }));
});
