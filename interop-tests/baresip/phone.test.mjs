// A telephone behind a PBX talks with a patient in a browser, both ways round.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { makeHospital, dropHospital, startPBX, endAll, until, sleep } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { Telephone } from '../lib/baresip.mjs';
import { answering, passes } from '../lib/sipp.mjs';

const digits = '0123456789*#ABCD';

// What the route prefers, what the telephone has, and the path that must come of it.
const cases = [
  { number: '1001', codecs: '[PCMU]', phone: 'PCMU', path: /-> PCMU -> rewrite/ },
  { number: '1002', codecs: '[PCMA]', phone: 'PCMA', path: /-> PCMA -> rewrite/ },
  { number: '1003', codecs: '[opus]', phone: 'PCMU', path: /opus>PCMU|PCMU>opus/ },
  { number: '1004', codecs: '[opus]', phone: 'PCMA', path: /opus>PCMA|PCMA>opus/ },
  { number: '1005', codecs: '[opus]', phone: 'G722', path: /opus>G722|G722>opus/ },
];

let gateway, browser;

before(async () => {
  makeHospital();
  await startPBX();
  const routes = cases.map((c) => `  - {name: patients to ${c.number}, when: 'call.source == "browser" && call.to.user == "${c.number}"', to: [trunk:pbx], codecs: ${c.codecs}}
  - {name: ${c.number} to patients, when: 'call.source == "pbx" && call.from.user == "${c.number}"', to: [visit], codecs: ${c.codecs}}`).join('\n');
  const ward = `  - {name: telephones to the ward, when: 'call.source == "pbx" && call.to.user == "2000"', to: [trunk:ward]}\n`;
  gateway = await new Gateway(config({ routes: ward + routes })).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

function sounds(what, m, floor) {
  assert.ok(Math.abs(m.hz - 1000) <= 6, `${what}: ${m.hz} Hz`);
  assert.ok(m.db > -20 && m.db < -8, `${what}: ${m.db} dB`);
  if (floor) assert.ok(m.snr > floor, `${what}: signal to noise ${m.snr} dB`);
  return `${what} ${m.hz.toFixed(0)} Hz ${m.db.toFixed(1)} dB${m.snr === undefined ? '' : ` snr ${m.snr.toFixed(1)} dB`}`;
}

async function bothHear(t, phone, patient, c) {
  await sleep(2500);
  t.diagnostic(sounds('the patient hears', await patient.hear()));
  t.diagnostic(sounds('the telephone hears', phone.listen(), 15));
  const [call] = await gateway.calls();
  assert.equal(call.state, 'talking');
  for (const l of call.legs) assert.match(l.media[0].path, c.path);
}

for (const c of cases) {
  test(`a patient calls a ${c.phone} telephone with ${c.codecs} preferred`, async (t) => {
    const phone = await new Telephone(c.number, c.phone).start(t);
    const patient = await Patient.open(t, browser, (await gateway.invite(`sip:${c.number}@hospital`)).url);
    await patient.reach('lobby');
    await patient.join();
    await patient.reach('connected');
    await bothHear(t, phone, patient, c);
    const began = Date.now();
    await patient.page.click('#hangup');
    const end = await until(() => phone.saw('CALL_CLOSED')[0], () => `the telephone to hear the end: ${phone.child.output}`);
    assert.ok(end.at - began < 500, `hanging up took ${end.at - began} ms`);
    t.diagnostic(`hang-up reached the telephone in ${end.at - began} ms`);
    assert.deepEqual(patient.errors, []);
  });

  test(`a ${c.phone} telephone calls a patient with ${c.codecs} preferred`, async (t) => {
    const phone = await new Telephone(c.number, c.phone).start(t);
    const inv = await gateway.invite('sip:1000@hospital');
    const patient = await Patient.open(t, browser, inv.url);
    await patient.reach('lobby');
    phone.command('dial', `sip:${inv.dial_code}@10.77.0.2`);
    await patient.page.waitForSelector('#decline:visible');
    await patient.join();
    await patient.reach('connected');
    await bothHear(t, phone, patient, c);
    const began = Date.now();
    phone.command('hangup');
    await patient.reach('ended', 2000);
    assert.ok(Date.now() - began < 500, `hanging up took ${Date.now() - began} ms`);
    t.diagnostic(`hang-up reached the page in ${Date.now() - began} ms`);
  });
}

test('the page rings while a telephone does, and no longer', async (t) => {
  const phone = await new Telephone('1003', 'PCMU', undefined, 'manual').start(t);
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:1003@hospital')).url);
  await patient.reach('lobby');
  await patient.page.evaluate(() => {
    const { start, stop } = OscillatorNode.prototype;
    OscillatorNode.prototype.start = function () { document.body.dataset.tone = String(this.frequency.value); start.call(this); };
    OscillatorNode.prototype.stop = function () { document.body.dataset.tone = ''; stop.call(this); };
  });
  const tone = () => patient.page.evaluate(() => document.body.dataset.tone);
  await patient.join();
  await patient.reach('ringing');
  assert.equal(await tone(), '425');
  await until(() => phone.child.output.includes('Incoming') || phone.saw('CALL_INCOMING').length, 'the telephone to ring');
  phone.command('accept');
  await patient.reach('connected');
  assert.equal(await tone(), '');
});

test('each of 16 keys crosses exactly once, each way, by RFC 4733', async (t) => {
  const phone = await new Telephone('1003', 'PCMU').start(t);
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:1003@hospital')).url);
  await patient.reach('lobby');
  await patient.join();
  await patient.reach('connected');
  await sleep(500);
  for (const d of digits) {
    await patient.press(d);
    await sleep(250);
  }
  await until(() => phone.digits().length >= digits.length, () => `the telephone saw ${phone.digits()}`);
  for (const d of digits) {
    phone.command('sndcode', d);
    await sleep(400);
  }
  await until(async () => (await patient.text('digits')).length >= digits.length, 'the page to show every key').catch(() => {});
  await sleep(500);
  assert.equal(phone.digits(), digits);
  assert.equal(await patient.text('digits'), digits);
});

test('hold and resume: the page shows it and the call lives on', async (t) => {
  const phone = await new Telephone('1003', 'PCMU').start(t);
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:1003@hospital')).url);
  await patient.reach('lobby');
  await patient.join();
  await patient.reach('connected');
  phone.command('hold');
  await patient.reach('held');
  assert.match(await patient.text('status'), /on hold/);
  assert.equal((await gateway.calls())[0].state, 'held');
  const sent = async () => (await gateway.calls())[0].legs.find((l) => l.kind === 'sip').media[0].sent;
  await sleep(500);
  const held = await sent();
  await sleep(500);
  assert.equal(await sent(), held, 'packets went to a telephone that holds');
  phone.command('resume');
  await patient.reach('connected');
  await sleep(2500);
  t.diagnostic(sounds('after resuming the patient hears', await patient.hear()));
  // baresip 1.0 records silence after a hold, whoever it talks to: packets are counted instead.
  assert.ok(await sent() > held + 100, 'no sound goes back to the telephone');
});

test('a muted patient is not heard', async (t) => {
  const phone = await new Telephone('1001', 'PCMU').start(t);
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:1001@hospital')).url);
  await patient.reach('lobby');
  await patient.join();
  await patient.reach('connected');
  await sleep(2000);
  t.diagnostic(sounds('the telephone hears', phone.listen(), 15));
  await patient.page.click('#mute');
  await sleep(2500);
  const muted = phone.listen();
  assert.ok(muted.db < -60, `${muted.db} dB cross from a muted patient`);
  await patient.page.click('#mute');
  await sleep(2500);
  t.diagnostic(sounds('unmuted the telephone hears', phone.listen(), 15));
});

test('the page is loaded again in the call and comes back; another tab is told that the link is in use', async (t) => {
  const phone = await new Telephone('1003', 'PCMU').start(t);
  const inv = await gateway.invite('sip:1003@hospital');
  const patient = await Patient.open(t, browser, inv.url);
  await patient.reach('lobby');
  await patient.join();
  await patient.reach('connected');
  await sleep(1000);
  const other = await Patient.open(t, browser, inv.url);
  await other.page.waitForFunction(() => document.getElementById('notice').textContent.includes('in use'));
  await other.close();
  await patient.page.reload();
  await patient.reach('connected');
  await sleep(2500);
  t.diagnostic(sounds('after the reload the patient hears', await patient.hear()));
  t.diagnostic(sounds('after the reload the telephone hears', phone.listen(), 15));
  assert.equal(phone.saw('CALL_CLOSED').length, 0);
  assert.equal((await gateway.calls()).length, 1);
});

// SIPp answers with PCMA and sends back what it hears.
for (const [number, codec, path] of [['1001', 'PCMU', 'PCMU>PCMA'], ['1005', 'G722', 'G722>PCMA']]) {
  test(`a ${codec} telephone calls another that has PCMA, and hears its own tone back`, async (t) => {
    const phone = await new Telephone(number, codec).start(t);
    const ward = await answering('uas-until-bye.xml', { extra: ['-rtp_echo'] });
    phone.command('dial', 'sip:2000@10.77.0.2');
    await until(() => phone.saw('CALL_ESTABLISHED').length, () => `the telephones to talk: ${phone.child.output}`);
    await sleep(3000);
    t.diagnostic(sounds('the telephone hears itself', phone.listen(), 15));
    const [call] = await gateway.calls();
    assert.match(call.legs[0].media[0].path, new RegExp(path));
    phone.command('hangup');
    assert.equal(await ward.over, 0, ward.errors());
  });
}

test('a telephone holds another: the other is offered the hold, and fetched back', async (t) => {
  const phone = await new Telephone('1001', 'PCMU').start(t);
  const ward = await answering('uas-held.xml', { extra: ['-rtp_echo'] });
  phone.command('dial', 'sip:2000@10.77.0.2');
  await until(() => phone.saw('CALL_ESTABLISHED').length, () => `the telephones to talk: ${phone.child.output}`);
  await sleep(1000);
  phone.command('hold');
  await until(async () => (await gateway.calls())[0]?.state === 'held', 'the hold');
  await sleep(1000);
  phone.command('resume');
  await until(async () => (await gateway.calls())[0]?.state === 'talking', 'the talk to go on');
  await sleep(1000);
  const received = async () => (await gateway.calls())[0].legs[1].media[0].received;
  const before = await received();
  await sleep(500);
  assert.ok(await received() > before + 15, 'the other telephone is not heard after the hold');
  phone.command('hangup');
  await passes(ward);
});
