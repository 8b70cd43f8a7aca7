// A Linphone behind the PBX talks with a patient in a browser: both ways round, keys,
// hold, and as a telephone that registers with the gateway.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeHospital, dropHospital, startPBX, endAll, until, sleep } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { Linphone } from '../lib/linphone.mjs';
import { Telephone } from '../lib/baresip.mjs';

const password = join(mkdtempSync(join(tmpdir(), 'sipbridge-nurse-')), 'password');
writeFileSync(password, 'w4rd\n');
const routes = `  - {name: patients to nurses, when: 'call.source == "browser" && call.to.user.startsWith("nurse")', to: [room]}
  - {name: patients to PCMU, when: 'call.source == "browser" && call.to.user == "1101"', to: [trunk:pbx], codecs: [PCMU]}
  - {name: patients to opus, when: 'call.source == "browser"', to: [trunk:pbx], codecs: [opus]}
  - {name: telephones to patients, when: 'call.source == "pbx"', to: [visit], codecs: [opus]}`;

let gateway, browser;

before(async () => {
  makeHospital();
  await startPBX();
  gateway = await new Gateway(config({ routes, trunks: `rooms:\n  nurse4: {password_file: ${password}, interface: pbx}` })).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

/** A patient calls a number and Linphone answers. */
async function answered(t, phone, number) {
  const patient = await Patient.open(t, browser, (await gateway.invite(`sip:${number}@hospital`)).url);
  await patient.reach('lobby');
  await patient.join();
  await phone.says('Receiving new incoming call');
  phone.command('answer');
  await patient.reach('connected');
  return patient;
}

async function patientHears(t, patient) {
  await sleep(2500);
  const { hz, db } = await patient.hear();
  t.diagnostic(`the patient hears ${hz.toFixed(0)} Hz ${db.toFixed(1)} dB`);
  assert.ok(Math.abs(hz - 1000) <= 6 && db > -25, `the patient hears ${hz} Hz, ${db} dB`);
}

/** Linphone writes what it heard when the call is over. */
function phoneHeard(t, phone) {
  const { hz, db, snr } = phone.listen();
  t.diagnostic(`Linphone heard ${hz} Hz ${db.toFixed(1)} dB, snr ${snr.toFixed(1)} dB`);
  assert.ok(Math.abs(hz - 1000) <= 6 && snr > 8, `Linphone heard ${hz} Hz, ${snr} dB above the rest`);
}

const over = () => until(async () => (await gateway.calls()).length === 0, 'no call to be left');

for (const [number, codec] of [['1101', 'PCMU'], ['1102', 'PCMA']]) {
  test(`a patient calls Linphone (${codec}), which holds, resumes, and presses keys`, async (t) => {
    const phone = await new Linphone(number, codec).start(t);
    const patient = await answered(t, phone, number);
    await patientHears(t, patient);
    for (const d of '19') {
      await patient.press(d);
      await phone.says(`Receiving tone ${d}`);
    }
    phone.command('7');
    await until(async () => await patient.text('digits') === '7', async () => `the page to show 7, not ${await patient.text('digits')}`);
    assert.equal(phone.child.output.match(/Receiving tone/g).length, 2, 'each key once');
    phone.command('pause');
    await patient.reach('held');
    await phone.says('is now paused');
    phone.command('resume');
    await patient.reach('connected');
    await patientHears(t, patient);
    await patient.page.click('#hangup');
    await phone.says(/ended|terminated/i);
    await over();
    phoneHeard(t, phone);
  });
}

test('Linphone calls a patient and hangs up', async (t) => {
  const phone = await new Linphone('1103', 'PCMU').start(t);
  const inv = await gateway.invite('sip:1000@hospital');
  const patient = await Patient.open(t, browser, inv.url);
  await patient.reach('lobby');
  phone.command(`call sip:${inv.dial_code}@10.77.0.2`);
  await patient.page.waitForSelector('#decline:visible');
  await patient.join();
  await patient.reach('connected');
  await patientHears(t, patient);
  phone.command('terminate');
  await patient.reach('ended', 3000);
  await over();
  phoneHeard(t, phone);
});

test('Linphone registers with a digest of SHA-256 and is called', async (t) => {
  const phone = await new Linphone('nurse4', 'PCMA', { registrar: '10.77.0.1', password: 'w4rd' }).start(t);
  const room = async () => (await gateway.api('GET', '/api/v1/trunks')).find((r) => r.name === 'room:nurse4');
  await until(async () => (await room()).state === 'up', async () => `it to answer OPTIONS: ${JSON.stringify(await room())}`);
  const patient = await answered(t, phone, 'nurse4');
  await patientHears(t, patient);
  await patient.page.click('#hangup');
  await phone.says(/ended|terminated/i);
  await over();
  phoneHeard(t, phone);
});

for (const asked of [true, false]) {
  test(`Linphone hands the patient over to another telephone ${asked ? 'that it talks to first' : 'blindly'}`, async (t) => {
    const phone = await new Linphone('1101', 'PCMU').start(t);
    const other = await new Telephone('1001', 'PCMU').start(t);
    const patient = await answered(t, phone, '1101');
    if (asked) {
      phone.command('pause');
      await phone.says('is now paused');
      phone.command('call sip:1001@10.77.0.2');
      await until(() => other.saw('CALL_ESTABLISHED').length === 1, () => `the consultation: ${phone.child.output}`);
      await sleep(500);
      phone.command('transfer 1 --to-call 2');
    } else {
      phone.command('transfer 1 sip:1001@10.77.0.2');
    }
    await until(async () => (await gateway.calls())[0]?.legs.some((l) => l.peer.endsWith('/1001')), () => `the patient to talk to 1001: ${phone.child.output}`);
    await patient.reach('connected');
    await patientHears(t, patient);
    await patient.page.click('#hangup');
    await over();
  });
}
