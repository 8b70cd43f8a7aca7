// Telephones that keep their sound secret, and one that does not, talk with a
// patient in a browser through a trunk that demands SRTP.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { makeHospital, dropHospital, startPBX, endAll, until, sleep } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { Telephone } from '../lib/baresip.mjs';

const routes = `  - {name: to patients, when: 'call.to.user.matches("^7[0-9]{6}$")', to: [visit]}
  - {name: by handshake, when: 'call.to.user == "1002"', to: [trunk:shaken/1002]}
  - {name: to telephones, when: 'call.source == "browser"', to: [trunk:pbx]}`;
const trunks = '  shaken: {address: "sip:10.77.0.2:5060", interface: pbx, options_every: 0s, srtp: required, srtp_keys: dtls}';

let gateway, browser;

before(async () => {
  makeHospital();
  await startPBX();
  gateway = await new Gateway(config({ routes, trunks, pbx: 'srtp: required' })).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

async function bothHear(t, phone, patient) {
  await sleep(2500);
  const [heard, got] = [await patient.hear(), phone.listen()];
  t.diagnostic(`the patient hears ${heard.hz.toFixed(0)} Hz ${heard.db.toFixed(1)} dB, the telephone ${got.hz.toFixed(0)} Hz ${got.db.toFixed(1)} dB`);
  for (const m of [heard, got]) assert.ok(Math.abs(m.hz - 1000) <= 6 && m.db > -20 && m.db < -8, `${m.hz} Hz, ${m.db} dB`);
  const [call] = await gateway.calls();
  for (const l of call.legs) assert.match(l.media[0].path, /-> srtp$/);
  assert.ok(phone.saw('CALL_MENC').length, `the telephone knows of no keys: ${JSON.stringify(phone.events.map((e) => e.type))}`);
}

for (const [number, secret, what] of [['1001', 'srtp-mand', 'keys in the description'], ['1002', 'dtls_srtp', 'a handshake']]) {
  test(`a patient calls a telephone: ${what}`, async (t) => {
    const phone = await new Telephone(number, 'PCMA', undefined, 'auto', secret).start(t);
    const patient = await Patient.open(t, browser, (await gateway.invite(`sip:${number}@hospital`)).url);
    await patient.reach('lobby');
    await patient.join();
    await patient.reach('connected');
    await bothHear(t, phone, patient);
  });

  test(`a telephone calls a patient: ${what}`, async (t) => {
    const phone = await new Telephone(number, 'PCMA', undefined, 'auto', secret).start(t);
    const inv = await gateway.invite('sip:1000@hospital');
    const patient = await Patient.open(t, browser, inv.url);
    await patient.reach('lobby');
    phone.command('dial', `sip:${inv.dial_code}@10.77.0.2`);
    await patient.page.waitForSelector('#decline:visible');
    await patient.join();
    await patient.reach('connected');
    await bothHear(t, phone, patient);
  });
}

test('a telephone that has no keys is not talked with', async (t) => {
  const phone = await new Telephone('1001', 'PCMA').start(t);
  const inv = await gateway.invite('sip:1000@hospital');
  phone.command('dial', `sip:${inv.dial_code}@10.77.0.2`);
  const end = await until(() => phone.saw('CALL_CLOSED')[0], 'the call to be refused');
  assert.match(end.param, /488/);
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:1001@hospital')).url);
  await patient.reach('lobby');
  await patient.join();
  await patient.reach('ended');
});
