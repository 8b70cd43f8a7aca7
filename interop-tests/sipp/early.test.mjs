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
  - {name: the next one, when: 'call.to.user == "3003"', to: [trunk:lab/1, trunk:lab/2], codecs: [PCMU]}
  - {name: nurses, when: 'call.from.user == "nurse"', to: [visit], at_once: true}
  - {name: telephones, when: 'call.to.user.matches("^7")', to: [visit]}` })).start();
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

test('a nurse call is answered at once by a page whose patient allowed the microphone; others ring', async (t) => {
  const inv = await gateway.invite('sip:1000@hospital');
  const patient = await Patient.open(t, browser, inv.url);
  await patient.reach('lobby');
  const asks = ['Call-Info: <sip:127.0.0.1>;answer-after=0'];
  const nurse = await Raw.open(t, 15098, { name: 'nurse' });
  const call = { id: 'nurse', tag: 'n', to: inv.dial_code };
  await nurse.call(call, asks);
  await patient.reach('connected');
  await nurse.bye(call);
  await patient.reach('ended');
  const other = await Raw.open(t, 15097);
  const ringing = { id: 'other', tag: 'o', to: inv.dial_code };
  other.request('INVITE', ringing, { headers: asks, body: 'v=0\r\nm=audio 40000 RTP/AVP 0\r\n' });
  await other.hears('other', /^SIP\/2\.0 180/);
  await patient.page.waitForSelector('#decline:visible');
  await sleep(500);
  assert.equal((await gateway.calls())[0].state, 'ringing');
});
