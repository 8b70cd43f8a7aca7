// On what terms a route lets a call pass: recordings, secrecy, headers, digits, bandwidth,
// the camera, and what the caller offers. Telephones of single messages, and a patient in Chromium.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeHospital, dropHospital, endAll, until } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { Raw } from '../lib/raw.mjs';

const recording = join(tmpdir(), `sipbridge-recording-${process.pid}.wav`);
const trunks = '  desk: {address: "sip:127.0.0.1:15098", options_every: 0s}';
const routes = `  - {name: closed, when: 'call.to.user == "1"', to: ["announce:closed"]}
  - {name: wait, when: 'call.to.user == "2"', to: ["announce:closed", "trunk:desk/2000"]}
  - {name: answered, when: 'call.to.user == "3"', to: ["announce:welcome"]}
  - {name: secret, when: 'call.to.user == "4"', to: ["trunk:desk/4000"], srtp: required}
  - {name: wide, when: 'call.to.user == "5" && "G722" in call.codecs', to: ["trunk:desk/5001"]}
  - {name: narrow, when: 'call.to.user == "5" && !("G722" in call.codecs)', to: ["trunk:desk/5000"]}
  - {name: told, when: 'call.source == "browser" && call.label("kind") == "told"', to: ["trunk:desk/6000"], headers: {X-Department: cardiology}, dtmf: info}
  - {name: private, when: 'call.source == "browser" && call.label("kind") == "private"', to: ["trunk:desk/6001"], recording: forbidden, video: off}
  - {name: thin, when: 'call.source == "browser" && call.label("kind") == "thin"', to: ["trunk:desk/6002"], bandwidth: 32}
  - {name: patients are told, when: 'call.source == "browser"', to: ["announce:closed"]}
announcements:
  closed: {file: "${recording}", status: 480}
  welcome: {file: "${recording}", answer: true, times: 2}`;

let gateway, browser;

before(async () => {
  execFileSync('sox', ['-n', '-r', '8000', '-c', '1', '-b', '16', recording, 'synth', '2', 'sine', '1000', 'vol', '0.33']);
  makeHospital();
  gateway = await new Gateway(config({ routes, trunks })).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

const over = () => until(async () => (await gateway.calls()).length === 0, 'no call to be left');
let calls = 0;
const dialog = (to) => ({ id: `terms${process.pid}x${++calls}`, tag: `a${calls}`, to });
const sound = (raw, formats = '0', more = '') => {
  const { address, port } = raw.rtp.address();
  return `v=0\r\no=raw 1 1 IN IP4 ${address}\r\ns=-\r\nc=IN IP4 ${address}\r\nt=0 0\r\nm=audio ${port} RTP/AVP ${formats}\r\n${more}`;
};
const hears = (raw) => until(() => raw.listens().tone > -16, () => `the recording: ${JSON.stringify(raw.listens())}`, 3000);

test('a recording is heard before the answer, and the call ends as it says', async (t) => {
  const raw = await Raw.open(t, 15099);
  const d = dialog('1');
  raw.request('INVITE', d, { body: sound(raw) });
  await raw.hears(d.id, /^SIP\/2\.0 183 [^]*m=audio/);
  await hears(raw);
  await raw.hears(d.id, /^SIP\/2\.0 480/);
  raw.request('ACK', d);
  assert.ok(raw.packets >= 98 && raw.packets <= 102, `${raw.packets} packets of two seconds`);
  await over();
});

test('after a recording the next target is called; who gives up meanwhile hears no more of it', async (t) => {
  const raw = await Raw.open(t, 15099), desk = await Raw.open(t, 15098);
  const d = dialog('2');
  raw.request('INVITE', d, { body: sound(raw) });
  await hears(raw);
  const invite = await desk.hears('', /^INVITE sip:2000@/);
  desk.answer(invite, 200, { tag: 'desk', sdp: true });
  raw.confirm(d, await raw.hears(d.id, /^SIP\/2\.0 200/));
  raw.request('ACK', d);
  const [call] = await gateway.calls();
  assert.equal(call.route, 'wait');
  await raw.bye(d);
  desk.answer(await desk.hears('', /^BYE /), 200);
  await over();

  const other = dialog('2');
  raw.sound = [];
  raw.request('INVITE', other, { body: sound(raw) });
  await hears(raw);
  raw.put([`CANCEL ${other.contact} SIP/2.0`, `Via: SIP/2.0/UDP ${raw.host}:${raw.port};branch=z9hG4bKraw${other.id}-${other.branch}`, `From: <sip:raw@127.0.0.1>;tag=${other.tag}`,
    `To: <sip:${other.to}@127.0.0.1>`, `Call-ID: ${other.id}`, `CSeq: ${other.cseq} CANCEL`, 'Max-Forwards: 70']);
  await raw.hears(other.id, /^SIP\/2\.0 487/);
  raw.request('ACK', other);
  await over();
});

test('a recording that answers is played as often as it says, and hangs up', async (t) => {
  const raw = await Raw.open(t, 15099);
  const d = dialog('3');
  await raw.call(d);
  await hears(raw);
  raw.answer(await raw.hears(d.id, /^BYE /), 200);
  assert.ok(raw.packets >= 197 && raw.packets <= 203, `${raw.packets} packets of four seconds`);
  await over();
});

test('a patient hears a recording before anybody answers', async (t) => {
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:1000@hospital')).url);
  await patient.reach('lobby');
  await patient.join();
  await patient.page.waitForFunction(() => document.getElementById('remote-audio').srcObject);
  const { hz, db } = await patient.hear();
  assert.ok(Math.abs(hz - 1000) < 20 && db > -30, `it hears ${hz} Hz at ${db} dB`);
  await patient.reach('ended');
  await over();
});

test('where a route demands secrecy a caller without keys is refused, and the target is offered nothing else', async (t) => {
  const raw = await Raw.open(t, 15099), desk = await Raw.open(t, 15098);
  const plain = dialog('4');
  raw.request('INVITE', plain, { body: sound(raw) });
  await raw.hears(plain.id, /^SIP\/2\.0 488/);
  raw.request('ACK', plain);
  assert.ok(!desk.heard.length, 'nobody was called');

  const keys = 'a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw\r\n';
  const keyed = dialog('4');
  raw.request('INVITE', keyed, { body: sound(raw, '0', keys) });
  const first = await desk.hears('', /^INVITE sip:4000@/);
  assert.match(first, /^m=audio \d+ RTP\/SAVP /m);
  assert.match(first, /^a=crypto:/m);
  desk.answer(first, 200, { tag: 'plain', sdp: true }); // an answer without keys
  desk.answer(await desk.hears('', /^BYE /), 200);
  await raw.hears(keyed.id, /^SIP\/2\.0 [45]\d\d/);
  raw.request('ACK', keyed);
  await over();

  const talking = dialog('4');
  raw.request('INVITE', talking, { body: sound(raw, '0', keys) });
  const second = await desk.hears('', /^INVITE sip:4000@/);
  const [, tag] = second.match(/^a=crypto:(\d+) AES_CM_128_HMAC_SHA1_80 /m);
  desk.answer(second, 200, { tag: 'keyed', sdp: true, more: keys.replace(':1', `:${tag}`), profile: 'RTP/SAVP' });
  const ok = await raw.hears(talking.id, /^SIP\/2\.0 200/);
  assert.match(ok, /^a=crypto:1 AES_CM_128_HMAC_SHA1_80 /m);
  raw.confirm(talking, ok);
  raw.request('ACK', talking);
  await raw.bye(talking);
  desk.answer(await desk.hears('', /^BYE /), 200);
  await over();
});

test('a route may ask what the caller offers', async (t) => {
  const raw = await Raw.open(t, 15099), desk = await Raw.open(t, 15098);
  for (const [formats, to] of [['9 0', '5001'], ['0', '5000']]) {
    const d = dialog('5');
    raw.request('INVITE', d, { body: sound(raw, formats) });
    desk.answer(await desk.hears('', new RegExp(`^INVITE sip:${to}@`)), 486, { tag: 'busy' });
    await raw.hears(d.id, /^SIP\/2\.0 486/);
    raw.request('ACK', d);
  }
  const decided = (codecs) => gateway.api('POST', '/api/v1/route', { source: 'desk', from: 'sip:1@h', to: '5', codecs });
  assert.equal((await decided(['G722'])).route, 'wide');
  assert.equal((await decided(['PCMA'])).route, 'narrow');
  await over();
});

test('a route sets headers of the INVITE, and how digits go', async (t) => {
  const desk = await Raw.open(t, 15098);
  const inv = await gateway.api('POST', '/api/v1/invites', { to: 'sip:1000@hospital', labels: { kind: 'told' } });
  const patient = await Patient.open(t, browser, inv.url);
  await patient.reach('lobby');
  await patient.join();
  const invite = await desk.hears('', /^INVITE sip:6000@/);
  assert.match(invite, /^X-Department: cardiology\r$/m);
  assert.doesNotMatch(invite, /telephone-event/);
  desk.answer(invite, 200, { tag: 'told', sdp: true, events: false });
  await patient.reach('connected');
  await patient.press('7');
  const info = await desk.hears('', /^INFO /);
  assert.match(info, /Signal= ?7/);
  desk.answer(info, 200);
  await patient.page.click('#hangup');
  desk.answer(await desk.hears('', /^BYE /), 200);
  await over();
});

/** A patient's call by the route that its kind of visit leads to, up to what the desk is sent. */
async function begins(t, kind) {
  const desk = await Raw.open(t, 15098);
  const patient = await Patient.open(t, browser, (await gateway.api('POST', '/api/v1/invites', { to: 'sip:1000@hospital', labels: { kind } })).url);
  await patient.reach('lobby');
  return { desk, patient, invite: async () => { await patient.join(); return desk.hears('', /^INVITE /); } };
}

async function hangsUp({ desk, patient }) {
  await patient.page.click('#hangup');
  desk.answer(await desk.hears('', /^BYE /), 200);
  await over();
}

test('RFC 7866 §7.3: a route forbids recording; a patient who is recorded all the same is told; and its camera stays off', async (t) => {
  const all = await begins(t, 'private'), { desk, patient } = all;
  const page = (f) => patient.page.evaluate(f);
  await patient.page.waitForFunction(() => document.querySelectorAll('#camera option').length > 1);
  await patient.page.selectOption('#camera', { index: 1 });
  await patient.page.waitForFunction(() => document.getElementById('self-video').classList.contains('on'));
  const invite = await all.invite();
  assert.match(invite, /^a=recordpref:off\r$/m);
  assert.match(invite, /^Supported: .*\brecord-aware\b/m);
  desk.answer(invite, 200, { tag: 'rec', sdp: true, more: 'a=record:on\r\n' });
  await patient.reach('connected');
  await until(async () => /is being recorded/.test(await patient.text('recording')), 'the patient to be told');
  await until(() => page(() => !document.getElementById('self-video').classList.contains('on') && document.getElementById('camera-off').hidden), 'the camera to be let go');

  const dialog = { id: invite.match(/^Call-ID: (\S+)/mi)[1], tag: 'rec', cseq: 1, to: 'us', remote: invite.match(/^From: .*tag=(\S+)/mi)[1], contact: invite.match(/^Contact: <([^>]+)>/mi)[1] };
  for (const [more, told] of [['a=record:off\r\n', ''], ['a=record:on\r\n', 'This call is being recorded at the hospital’s end.']]) {
    desk.request('INVITE', dialog, { body: sound(desk, '0', more) });
    assert.match(await desk.hears(dialog.id, /^SIP\/2\.0 200[^]*INVITE/), /^a=recordpref:off\r$/m);
    desk.request('ACK', dialog);
    await until(async () => await patient.text('recording') === told, `the page to say "${told}"`);
  }
  assert.equal(await patient.state(), 'connected');
  await patient.page.reload();
  await patient.reach('connected');
  await until(async () => /is being recorded/.test(await patient.text('recording')), 'the patient to be told once more');
  await hangsUp(all);
  assert.equal(await patient.text('recording'), '');
});

test('RFC 7587 §6.1: sound takes no more of a patient\'s line than the route says', async (t) => {
  const takes = {};
  for (const kind of ['thin', 'private']) {
    const all = await begins(t, kind), { desk, patient } = all;
    const invite = await all.invite();
    assert.match(invite, kind === 'thin' ? /maxaveragebitrate=9600/ : /^m=audio/m);
    desk.answer(invite, 200, { tag: kind, sdp: true });
    await patient.reach('connected');
    desk.plays(invite);
    await until(() => desk.packets > 100, 'sound from the patient');
    const bits = () => patient.page.evaluate(async () => { // each way, with IP, UDP, RTP and the tag of AES-GCM
      const sum = { in: 0, out: 0 };
      for (const s of (await window.connections.at(-1).getStats()).values()) {
        if (s.type === 'outbound-rtp') sum.out += 8 * (s.bytesSent + 56 * s.packetsSent);
        if (s.type === 'inbound-rtp') sum.in += 8 * (s.bytesReceived + 56 * s.packetsReceived);
      }
      return sum;
    });
    const before = await bits(), began = Date.now();
    await new Promise((r) => setTimeout(r, 4000));
    const after = await bits(), seconds = (Date.now() - began) / 1000;
    takes[kind] = { in: (after.in - before.in) / seconds / 1000, out: (after.out - before.out) / seconds / 1000 };
    await hangsUp(all);
    desk.close();
  }
  t.diagnostic(JSON.stringify(takes));
  for (const way of ['in', 'out']) assert.ok(takes.thin[way] < 32 * 1.08 && takes.thin[way] < takes.private[way], `${way}: ${takes.thin[way]} kbit/s, and ${takes.private[way]} without a word`);
});

test('RFC 7587 §6.1: a browser is told how much of its sound is heard, and anew on the same connection when it is more', async (t) => {
  const all = await begins(t, 'told'), { desk, patient } = all;
  const invite = await all.invite();
  desk.answer(invite, 200, { tag: 'wide', sdp: true });
  await patient.reach('connected');
  const told = () => patient.page.evaluate(() => window.connections.at(-1).remoteDescription.sdp.match(/^a=fmtp:\d+ .*useinbandfec.*$/m)[0]);
  for (const limit of [/\bmaxplaybackrate=8000\b/, /\bmaxaveragebitrate=40000\b/]) assert.match(await told(), limit);
  desk.plays(invite);
  await until(() => desk.packets > 100, 'sound from the patient');
  const dialog = { id: invite.match(/^Call-ID: (\S+)/mi)[1], tag: 'wide', cseq: 1, to: 'us', remote: invite.match(/^From: .*tag=(\S+)/mi)[1], contact: invite.match(/^Contact: <([^>]+)>/mi)[1] };
  desk.request('INVITE', dialog, { body: sound(desk, '9') });
  assert.match(await desk.hears(dialog.id, /^SIP\/2\.0 200[^]*INVITE/), /^m=audio \d+ RTP\/AVP 9/m);
  desk.request('ACK', dialog);
  await until(async () => !/maxplaybackrate/.test(await told()), 'the page to be told that all is heard');
  const packets = desk.packets;
  await until(() => desk.packets > packets + 100, 'sound from the patient');
  assert.equal(await patient.page.evaluate(() => window.connections.length), 1);
  assert.equal(await patient.state(), 'connected');
  await hangsUp(all);
});
