// Sound that comes before the answer (RFC 3960): announcements and voice menus of a PBX
// reach the patient's page. The PBX is a telephone of single messages that plays a tone.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { makeHospital, dropHospital, endAll, until, sleep } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { Raw } from '../lib/raw.mjs';

let gateway, browser;

before(async () => {
  makeHospital();
  gateway = await new Gateway(config({ routes: `  - {name: untouched, when: 'call.to.user == "3001"', to: [trunk:lab], codecs: [PCMU]}
  - {name: recoded, when: 'call.to.user == "3002"', to: [trunk:lab], codecs: [opus]}
  - {name: the next one, when: 'call.to.user == "3003"', to: [trunk:lab/1, trunk:lab/2], codecs: [PCMU]}` })).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

async function heard(t, what, patient) {
  await sleep(2000);
  const m = await patient.hear();
  assert.ok(Math.abs(m.hz - 1000) <= 6 && m.db > -20 && m.db < -8, `${what}: ${m.hz} Hz, ${m.db} dB`);
  t.diagnostic(`${what} the patient hears ${m.hz.toFixed(0)} Hz`);
}

async function rings(t, number) {
  const pbx = await Raw.open(t, 15099);
  const patient = await Patient.open(t, browser, (await gateway.invite(`sip:${number}@hospital`)).url);
  await patient.reach('lobby');
  await patient.join();
  return { pbx, patient, invite: await pbx.hears('', /^INVITE /) };
}

for (const [how, number] of [['untouched', '3001'], ['recoded', '3002']]) {
  test(`${how}: the patient hears an announcement, presses a key in its menu, reloads the page, and is answered`, async (t) => {
    const { pbx, patient, invite } = await rings(t, number);
    pbx.answer(invite, 183, { tag: 'pbx', sdp: true });
    pbx.plays(invite);
    await patient.reach('ringing');
    await heard(t, 'before the answer', patient);
    assert.equal((await gateway.calls())[0].state, 'ringing');
    await patient.press('5');
    await until(() => pbx.events > 2, 'the key to reach the menu');
    await patient.page.reload();
    await patient.reach('ringing');
    await heard(t, 'after a reload', patient);
    pbx.answer(invite, 200, { tag: 'pbx', sdp: true });
    await patient.reach('connected');
    await heard(t, 'after the answer', patient);
    await patient.page.click('#hangup');
    pbx.answer(await pbx.hears('', /^BYE /), 200);
  });
}

test('an announcement that ends in a refusal gives way to the next target', async (t) => {
  const { pbx, patient, invite } = await rings(t, '3003');
  pbx.answer(invite, 183, { tag: 'first', sdp: true });
  pbx.plays(invite);
  await heard(t, 'of the first target', patient);
  pbx.answer(invite, 503, { tag: 'first' });
  const second = await pbx.hears('', /^INVITE sip:2@/);
  pbx.answer(second, 200, { tag: 'second', sdp: true });
  pbx.plays(second);
  await patient.reach('connected');
  await heard(t, 'of the second target', patient);
  await patient.page.click('#hangup');
  pbx.answer(await pbx.hears('', /^BYE /), 200);
});
