// SIPp as a ward's telephones: the lines of the standards, and the ends of the process.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { makeHospital, dropHospital, startPBX, endAll, until, sleep } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { guess } from '../lib/guess.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { Raw } from '../lib/raw.mjs';
import { answering, passes, sipp } from '../lib/sipp.mjs';

const routes = `  - {name: patients to the ward behind the PBX, when: 'call.source == "browser" && call.to.user == "3000"', to: [trunk:pbx]}
  - {name: patients to the ward, when: 'call.source == "browser"', to: [trunk:ward]}
  - {name: the lab to patients, when: 'call.source == "lab" && call.to.user.matches("^7[0-9]{6}$")', to: [visit], codecs: [opus]}
  - {name: telephones to patients, when: 'call.to.user.matches("^7[0-9]{6}$")', to: [visit]}
  - {name: telephones to the ward, when: 'call.source == "lab"', to: [trunk:ward]}`;

// The ward speaks to the gateway directly, and through the hospital's PBX.
const ways = [{ name: 'directly', target: '10.77.0.1:5060', ward: '1000' }, { name: 'through Kamailio', target: '10.77.0.2:5060', ward: '3000' }];

let gateway, browser;

before(async () => {
  makeHospital();
  await startPBX();
  gateway = await new Gateway(config({ routes, pbx: 'dtmf: info' })).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

/** A telephone calls a patient who answers. */
async function answered(t, scenario, { way = ways[0], extra = [], fill } = {}) {
  const inv = await gateway.invite('sip:1000@hospital');
  const patient = await Patient.open(t, browser, inv.url);
  await patient.reach('lobby');
  const phone = sipp(scenario, { service: inv.dial_code, target: way.target, extra, fill });
  await patient.page.waitForSelector('#decline:visible');
  await patient.join();
  await patient.reach('connected');
  return { phone, patient };
}

const keys = '0123456789*#ABCD';

/** SIPp's steps for pressing every key, in both bodies in turn, and for taking as many. */
const press = [...keys].map((k, i) => `<send retrans="500"><![CDATA[
INFO [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
[routes]
From: "Ward" <sip:300@[local_ip]:[local_port]>;tag=[pid]w[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: ${i + 2} INFO
Max-Forwards: 70
Content-Type: application/${i % 2 ? 'dtmf' : 'dtmf-relay'}
Content-Length: [len]

${i % 2 ? k : `Signal=${k}\nDuration=160`}
]]></send>
  <recv response="200"/>`).join('\n');
const take = [...keys].map(() => `<recv request="INFO" timeout="15000"/>
  <send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>`).join('\n');

for (const way of ways) {
  test(`16 keys by INFO cross both ways ${way.name}, each exactly once, and one Session-ID names the call`, async (t) => {
    const { phone, patient } = await answered(t, 'uac-info.xml', { way, fill: { PRESS: press, TAKE: take } });
    await until(async () => (await patient.text('digits')).length >= keys.length, async () => patient.text('digits'), 8000);
    const [call] = await gateway.calls();
    assert.equal(call.session_id, 'ab30317f1a784dc48ff824d0d3715d86');
    for (const d of keys) {
      await patient.press(d);
      await sleep(250);
    }
    await sleep(500);
    await patient.page.click('#hangup');
    await passes(phone);
    assert.equal(await patient.text('digits'), keys);
    const sent = phone.messages().split(/^-{20,}.*$/m).filter((m) => /message received/.test(m) && /^INFO /m.test(m)).map((m) => m.match(/Signal=(.)/)[1]).join('');
    assert.equal(sent, keys);
    const record = await until(() => gateway.records().find((r) => r.id === call.id), 'the record');
    assert.equal(record.session_id, call.session_id);
    assert.equal(record.route, 'telephones to patients');
  });

  for (const [transport, flag] of [['UDP', 'u1'], ['TCP', 't1']]) {
    test(`a call without an offer, and a re-INVITE without one, over ${transport} ${way.name}`, async (t) => {
      const { phone, patient } = await answered(t, 'uac-offerless.xml', { way, extra: ['-t', flag] });
      await passes(phone);
      await patient.reach('ended');
    });
  }

  test(`holds are answered ${way.name} with their true direction; what cannot be met is refused and the call lives on`, async (t) => {
    const { phone, patient } = await answered(t, 'uac-hold.xml', { way });
    await patient.reach('held');
    await passes(phone);
    await patient.reach('ended');
  });

  test(`a caller who gives up ${way.name} is let go while the patient, not there yet, would ring`, async () => {
    const inv = await gateway.invite('sip:1000@hospital');
    await passes(sipp('uac-cancel.xml', { service: inv.dial_code, target: way.target }));
    await until(async () => (await gateway.calls()).length === 0, 'no call to be left');
  });

  test(`a busy ward ${way.name} is said in plain words`, async (t) => {
    const phone = await answering('uas-busy.xml');
    const patient = await Patient.open(t, browser, (await gateway.invite(`sip:${way.ward}@hospital`)).url);
    await patient.reach('lobby');
    await patient.join();
    await patient.reach('ended');
    assert.match(await patient.text('status'), /busy/);
    await passes(phone);
  });

  test(`a patient calls a ward ${way.name} and hangs up`, async (t) => {
    const phone = await answering('uas-until-bye.xml');
    const patient = await Patient.open(t, browser, (await gateway.invite(`sip:${way.ward}@hospital`)).url);
    await patient.reach('lobby');
    await patient.join();
    await patient.reach('connected');
    await sleep(500);
    await patient.page.click('#hangup');
    await passes(phone);
  });
}

for (const [transport, flag, way] of [['TCP', 't1', ways[0]], ['UDP', 'u1', ways[1]]]) {
  test(`the patient hangs up on a telephone that called over ${transport} ${way.name}`, async (t) => {
    const { phone, patient } = await answered(t, 'uac-until-bye.xml', { way, extra: ['-t', flag] });
    await sleep(500);
    await patient.page.click('#hangup');
    await passes(phone);
  });
}

test('a link that is not valid is turned away in plain words', async (t) => {
  const patient = await Patient.open(t, browser, 'http://127.0.0.1:18080/v/lisbon.AAAAAAAAAAAAAAAAAAAAAA', 'lang=pt');
  await patient.page.waitForFunction(() => document.getElementById('notice').textContent.includes('não é válida'));
});

test('10,000 guessed links: silence after the first few, all counted, and others at that address are served', async (t) => {
  const { patients: [{ patient }], phone } = await talking(t, 1);
  const before = await gateway.metric('sipbridge_links_refused_total');
  const told = await guess('127.0.0.1', 18080, 10000);
  assert.ok(told <= 20, `${told} guesses were told that they were wrong`);
  assert.equal(await gateway.metric('sipbridge_links_refused_total') - before, 10000);
  assert.equal(await patient.state(), 'connected');
  const other = await Patient.open(t, browser, (await gateway.invite('sip:1000@hospital')).url);
  await other.reach('lobby');
  await patient.page.click('#hangup');
  await passes(phone);
});

// ---- bad input, by hand from an accepted source and from a stranger ----

async function ask(message, from = '127.0.0.1', wait = 700) {
  const s = dgram.createSocket('udp4');
  await new Promise((r) => s.bind(0, from, r));
  const got = [];
  s.on('message', (m) => got.push(m.toString()));
  s.send(message, 15060, '127.0.0.1');
  await sleep(wait);
  s.close();
  return got;
}

let n = 0;
function request(method, { headers = '', body = '', type = 'application/sdp', to = '<sip:1000@h>' } = {}) {
  n++;
  return `${method} sip:1000@127.0.0.1:15060 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:15098;rport;branch=z9hG4bKt${process.pid}${n}\r\nFrom: <sip:x@h>;tag=t${n}\r\nTo: ${to}\r\n`
    + `Call-ID: t${process.pid}${n}\r\nCSeq: 1 ${method}\r\nMax-Forwards: 70\r\nContact: <sip:x@127.0.0.1:15098>\r\n${headers}`
    + (body ? `Content-Type: ${type}\r\n` : '') + `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

const sdp = (m) => `v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n${m}`;
const final = (got) => got.map((m) => m.split('\r\n')[0].split(' ')[1]).filter((c) => c !== '100').pop();

const wrong = [
  ['an unknown method', () => request('BREW'), '405', /Allow: .*INVITE/],
  ['a method we do not take', () => request('SUBSCRIBE'), '405', /Allow:/],
  ['OPTIONS', () => request('OPTIONS'), '200', /Allow: .*INFO/],
  ['Require of the unknown', () => request('INVITE', { headers: 'Require: teleport\r\n', body: sdp('m=audio 4000 RTP/AVP 0\r\n') }), '420', /Unsupported: teleport/],
  ['SDP without audio', () => request('INVITE', { body: sdp('m=video 4000 RTP/AVP 31\r\n') }), '488'],
  ['unknown codecs alone', () => request('INVITE', { body: sdp('m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 FOO/8000\r\n') }), '488'],
  ['200 m= lines', () => request('INVITE', { body: sdp('m=audio 4000 RTP/AVP 0\r\n'.repeat(200)) }), '488'],
  ['a body that is no SDP', () => request('INVITE', { body: 'hello', type: 'text/plain' }), '415'],
  ['torn SDP', () => request('INVITE', { body: 'v=0\r\no=- 1' }), '488'],
  ['a BYE of no dialog', () => request('BYE', { to: '<sip:1000@h>;tag=none' }), '481'],
  ['a CSeq of another method', () => request('INVITE').replace('CSeq: 1 INVITE', 'CSeq: 1 BYE'), '400'],
];
for (const [what, message, status, also] of wrong) {
  test(`${what} gets ${status}`, async () => {
    const got = await ask(message());
    assert.equal(final(got), status, got.join('\n'));
    if (also) assert.match(got.join('\n'), also);
  });
}

test('a stranger gets no answer and is counted; torn and oversized messages disturb nothing', async () => {
  const before = await gateway.metric('sipbridge_sip_strangers_total');
  assert.deepEqual(await ask(request('OPTIONS'), '127.0.0.2'), []);
  assert.equal(await gateway.metric('sipbridge_sip_strangers_total'), before + 1);
  await ask('INVITE sip:1000@h SIP/2.0\r\nVia: ', '127.0.0.1', 50);
  await ask(Buffer.alloc(60000, 0x41), '127.0.0.1', 50);
  await ask(Buffer.from([0, 1, 2, 255, 254]), '127.0.0.1', 50);
  assert.equal(final(await ask(request('OPTIONS'))), '200');
});

// ---- packets of any length ----

for (const ms of [10, 40, 60]) {
  test(`RFC 3551 §4.2: a telephone's packets of ${ms} ms become 50 of Opus a second, and nothing is put between them`, async (t) => {
    const inv = await gateway.invite('sip:1000@hospital');
    const patient = await Patient.open(t, browser, inv.url);
    await patient.reach('lobby');
    const phone = await Raw.open(t, 15099);
    const call = phone.call({ id: `ptime${ms}`, tag: 'p', to: inv.dial_code });
    await patient.page.waitForSelector('#decline:visible');
    await patient.join();
    phone.plays(await call, ms);
    await patient.reach('connected');
    await sleep(2000);
    const [before, began] = [await patient.receives(), Date.now()];
    await sleep(4000);
    const [after, ended] = [await patient.receives(), Date.now()];
    const rate = (after.packetsReceived - before.packetsReceived) * 1000 / (ended - began);
    assert.ok(Math.abs(rate - 50) < 2.5, `${rate} packets a second`);
    const heard = await patient.hear();
    assert.ok(Math.abs(heard.hz - 1000) <= 6 && heard.db > -20, `${heard.hz} Hz, ${heard.db} dB`);
    const [now] = await gateway.calls();
    assert.match(now.legs[0].media[0].path, /PCMU>opus/);
    await patient.page.click('#hangup');
    await phone.hears(`ptime${ms}`, /^BYE/);
  });
}

// ---- the ends of the process ----

async function talking(t, count) {
  const patients = [];
  const phone = await answering('uas-until-bye.xml', { calls: count });
  for (let i = 0; i < count; i++) {
    const inv = await gateway.invite('sip:1000@hospital');
    const patient = await Patient.open(t, browser, inv.url);
    await patient.reach('lobby');
    await patient.join();
    await patient.reach('connected');
    patients.push({ patient, inv });
  }
  return { phone, patients };
}

test('SIGTERM in two calls: every leg gets its BYE, pages are told, exit 0', async (t) => {
  const { phone, patients } = await talking(t, 2);
  const code = await gateway.stop('SIGTERM');
  assert.equal(code, 0, gateway.child.output);
  await passes(phone);
  for (const { patient } of patients) await patient.reach('ended');
  const records = gateway.records();
  assert.equal(new Set(records.map((r) => r.id)).size, records.length, 'each record is there once');
  await gateway.start();
});

test('SIGKILL in a call: after the restart the far end gets its BYE, the record is there once, the invitation works', async (t) => {
  const { phone, patients } = await talking(t, 1);
  const [call] = await gateway.calls();
  await sleep(500);
  await gateway.stop('SIGKILL');
  await gateway.start();
  await passes(phone);
  await until(() => gateway.records().some((r) => r.id === call.id), 'the record of the lost call');
  assert.equal(gateway.records().filter((r) => r.id === call.id).length, 1);
  await patients[0].patient.reach('ended');
  const again = await answering('uas-until-bye.xml');
  await patients[0].patient.join();
  await patients[0].patient.reach('connected');
  await patients[0].patient.page.click('#hangup');
  await passes(again);
});
