// SIPp as a ward's telephones: the lines of the standards, and the ends of the process.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { makeHospital, dropHospital, endAll, until, sleep } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { sipp } from '../lib/sipp.mjs';

const routes = `  - {name: patients to the ward, when: 'call.source == "browser"', to: [trunk:ward]}
  - {name: telephones to patients, when: 'call.to.user.matches("^7[0-9]{6}$")', to: [visit]}
  - {name: telephones to the ward, when: 'call.source == "lab"', to: [trunk:ward]}`;

let gateway, browser;

before(async () => {
  makeHospital();
  gateway = await new Gateway(config({ routes })).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

async function passes(child) {
  const code = await child.over;
  assert.equal(code, 0, `SIPp ended with ${code}: ${child.errors().slice(-3000)}`);
}

/** A telephone calls a patient who answers. */
async function answered(t, scenario, extra = []) {
  const inv = await gateway.invite('sip:1000@hospital');
  const patient = await Patient.open(t, browser, inv.url);
  await patient.reach('lobby');
  const phone = sipp(scenario, { service: inv.dial_code, extra });
  await patient.page.waitForSelector('#decline:visible');
  await patient.join();
  await patient.reach('connected');
  return { phone, patient };
}

test('keys by INFO cross both ways, each exactly once, and one Session-ID names the call', async (t) => {
  const { phone, patient } = await answered(t, 'uac-info.xml');
  await until(async () => (await patient.text('digits')).length >= 4, async () => patient.text('digits'), 8000);
  const [call] = await gateway.calls();
  assert.equal(call.session_id, 'ab30317f1a784dc48ff824d0d3715d86');
  for (const d of '0123456789*#ABCD') {
    await patient.press(d);
    await sleep(250);
  }
  await sleep(500);
  await patient.page.click('#hangup');
  await passes(phone);
  assert.equal(await patient.text('digits'), '1*7#');
  const sent = phone.messages().split(/^-{20,}.*$/m).filter((m) => /message received/.test(m) && /^INFO /m.test(m)).map((m) => m.match(/Signal=(.)/)[1]).join('');
  assert.equal(sent, '0123456789*#ABCD');
  const record = await until(() => gateway.records().find((r) => r.session_id === 'ab30317f1a784dc48ff824d0d3715d86'), 'the record');
  assert.equal(record.route, 'telephones to patients');
});

for (const [transport, flag] of [['UDP', 'u1'], ['TCP', 't1']]) {
  test(`a call without an offer, and a re-INVITE without one, over ${transport}`, async (t) => {
    const { phone, patient } = await answered(t, 'uac-offerless.xml', ['-t', flag]);
    await passes(phone);
    await patient.reach('ended');
  });
}

test('the patient hangs up on a telephone that called over TCP', async (t) => {
  const { phone, patient } = await answered(t, 'uac-until-bye.xml', ['-t', 't1']);
  await sleep(500);
  await patient.page.click('#hangup');
  await passes(phone);
});

test('holds are answered with their true direction; what cannot be met is refused and the call lives on', async (t) => {
  const { phone, patient } = await answered(t, 'uac-hold.xml');
  await patient.reach('held');
  await passes(phone);
  await patient.reach('ended');
});

test('a caller who gives up is let go while the patient, not there yet, would ring', async () => {
  const inv = await gateway.invite('sip:1000@hospital');
  await passes(sipp('uac-cancel.xml', { service: inv.dial_code }));
  await until(async () => (await gateway.calls()).length === 0, 'no call to be left');
});

test('a busy ward is said in plain words', async (t) => {
  const phone = sipp('uas-busy.xml');
  await sleep(300);
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:1000@hospital')).url);
  await patient.reach('lobby');
  await patient.join();
  await patient.reach('ended');
  assert.match(await patient.text('status'), /busy/);
  await passes(phone);
});

test('a link that is not valid, and guessing one, are turned away', async (t) => {
  const patient = await Patient.open(t, browser, 'http://127.0.0.1:18080/v/lisbon.AAAAAAAAAAAAAAAAAAAAAA', 'lang=pt');
  await patient.page.waitForFunction(() => document.getElementById('notice').textContent.includes('não é válida'));
  const before = await gateway.metric('sipbridge_links_refused_total');
  const refused = await patient.page.evaluate(async () => {
    let cut = 0;
    for (let i = 0; i < 200; i++) {
      await new Promise((resolve) => {
        const ws = new WebSocket(`ws://${location.host}/v/lisbon.guess${i}/signal`);
        let told = false;
        ws.onopen = () => { ws.send('{"type":"hello","tab":"x","fresh":true}'); };
        ws.onmessage = () => { told = true; ws.close(); };
        ws.onclose = () => { if (!told) cut++; resolve(); };
      });
    }
    return cut;
  });
  const after = await gateway.metric('sipbridge_links_refused_total');
  assert.ok(refused >= 150, `${refused} of 200 guesses were cut off`);
  assert.equal(after - before, 200, `${after - before} of 200 guesses were counted`);
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

// ---- the ends of the process ----

async function talking(t, count) {
  const patients = [];
  const phone = sipp('uas-until-bye.xml', { calls: count });
  await sleep(300);
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
  const again = sipp('uas-until-bye.xml');
  await sleep(300);
  await patients[0].patient.join();
  await patients[0].patient.reach('connected');
  await patients[0].patient.page.click('#hangup');
  await passes(again);
});
