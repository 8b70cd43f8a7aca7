// A machine that does something else for a while: what came meanwhile is late, not lost.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { makeHospital, dropHospital, endAll, sleep } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { Raw } from '../lib/raw.mjs';

let gateway, browser;

before(async () => {
  makeHospital();
  gateway = await new Gateway(config({ routes: `  - {name: patients to the lab, when: 'call.source == "browser"', to: [trunk:lab], codecs: [opus]}` })).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

test('a gateway that does not run for 150 ms, ten times, conceals next to nothing of what it recodes', async (t) => {
  const phone = await Raw.open(t, 15099);
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:1000@hospital')).url);
  await patient.reach('lobby');
  await patient.join();
  const met = await phone.hears('', /^INVITE/);
  phone.answer(met, 200, { tag: 'stalled', sdp: true });
  phone.plays(met);
  await patient.reach('connected');
  await sleep(3000);
  const concealed = async () => (await gateway.calls())[0].legs.map((l) => l.media[0].concealed_ms);
  const before = await concealed();
  for (let n = 0; n < 10; n++) {
    gateway.child.kill('SIGSTOP');
    await sleep(150);
    gateway.child.kill('SIGCONT');
    await sleep(700);
  }
  const made = (await concealed()).map((ms, i) => ms - before[i]);
  t.diagnostic(`concealed of 1,500 ms in which it stood still: ${made.join(' and ')} ms`); // 130 to 200 where the drum does not wait for the loops
  assert.ok(made.every((ms) => ms < 80), `${made.join(' and ')} ms`);
  await patient.page.click('#hangup');
  phone.answer(await phone.hears('', /^BYE /), 200);
});
