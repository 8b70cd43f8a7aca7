// The patient has Firefox: both ways of calling, sound and keys.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { makeHospital, dropHospital, startPBX, endAll, until, sleep } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { launch, open } from '../lib/firefox.mjs';
import { Telephone } from '../lib/baresip.mjs';

let gateway, browser;

before(async () => {
  makeHospital();
  await startPBX();
  const routes = ['PCMU', 'opus'].map((codec, i) => `  - {name: patients to 100${i + 1}, when: 'call.source == "browser" && call.to.user == "100${i + 1}"', to: [trunk:pbx], codecs: [${codec}]}
  - {name: 100${i + 1} to patients, when: 'call.source == "pbx" && call.from.user == "100${i + 1}"', to: [visit], codecs: [${codec}]}`).join('\n');
  gateway = await new Gateway(config({ routes })).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

async function bothHear(t, phone, patient, codec) {
  await sleep(2500);
  const there = phone.listen();
  // Firefox's fake microphone plays one steady tone; which one is its own affair.
  assert.ok(there.db > -40, `the telephone hears ${there.db} dB`);
  const here = await patient.hears();
  assert.equal(here.codec?.toLowerCase(), `audio/${codec.toLowerCase()}`);
  assert.ok(here.packets > 40, `${here.packets} packets a second arrive`);
  t.diagnostic(`the telephone hears ${there.db.toFixed(1)} dB; the patient gets ${here.packets} ${here.codec} packets a second, energy ${here.energy}`);
}

for (const [number, codec] of [['1001', 'PCMU'], ['1002', 'opus']]) {
  test(`a patient with Firefox calls a telephone, ${codec} preferred, and presses keys`, async (t) => {
    const phone = await new Telephone(number, 'PCMU').start(t);
    const patient = await open(t, browser, (await gateway.invite(`sip:${number}@hospital`)).url);
    await patient.reach('lobby');
    await patient.page.waitForSelector('#join:enabled');
    await patient.page.click('#join');
    await patient.reach('connected');
    await bothHear(t, phone, patient, codec);
    for (const d of '159#') {
      await patient.page.click(`button[data-digit="${d}"]`);
      await sleep(350);
    }
    await until(() => phone.digits().length >= 4, () => `the telephone saw ${phone.digits()}`);
    assert.equal(phone.digits(), '159#');
    phone.command('sndcode', '7');
    await until(async () => await patient.text('digits') === '7', 'the page to show the key');
    await patient.page.click('#hangup');
    await until(() => phone.saw('CALL_CLOSED').length, 'the telephone to hear the end');
  });

  test(`a telephone calls a patient with Firefox, ${codec} preferred`, async (t) => {
    const phone = await new Telephone(number, 'PCMU').start(t);
    const inv = await gateway.invite('sip:1000@hospital');
    const patient = await open(t, browser, inv.url);
    await patient.reach('lobby');
    phone.command('dial', `sip:${inv.dial_code}@10.77.0.2`);
    await patient.page.waitForSelector('#decline:not([hidden])');
    await patient.page.click('#join');
    await patient.reach('connected');
    await bothHear(t, phone, patient, codec);
    phone.command('hangup');
    await patient.reach('ended', 3000);
  });
}
