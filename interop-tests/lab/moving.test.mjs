// Networks that change under a call: the patient's address, a path that goes silent, a
// relay that dies. The call goes on by another way; a patient's who is lost ends.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { makeHospital, dropHospital, endAll, sleep, until } from '../lib/net.mjs';
import { Gateway } from '../lib/gateway.mjs';
import { Patient } from '../lib/page.mjs';
import { Raw } from '../lib/raw.mjs';
import { closedGateway, coturnURL, external, launchAtHome, makeHome, dropHome, lets, moves, startCoturn } from './lab.mjs';

let gateway, browser;

before(async () => {
  makeHospital();
  await makeHome();
  gateway = await new Gateway(closedGateway()).start();
  browser = await launchAtHome();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHome();
  dropHospital();
});

/** A call of a patient's, with sound both ways. */
async function talking(t) {
  const phone = await Raw.open(t, 15099);
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:1000@hospital')).url);
  await patient.reach('lobby');
  await patient.join();
  const invite = await phone.hears('', /^INVITE/);
  phone.answer(invite, 200, { tag: 'm', sdp: true });
  phone.plays(invite);
  await patient.reach('connected');
  await until(() => phone.packets > 50, 'sound from the patient');
  const [call] = await gateway.calls();
  return { phone, patient, call };
}

/** How long the telephone then hears nothing, in ms. */
async function gap(phone, within) {
  await sleep(300);
  const before = phone.packets;
  await sleep(200);
  assert.ok(phone.packets - before < 5, 'the path was cut');
  const cut = Date.now() - 500;
  const from = phone.packets;
  await until(() => phone.packets > from + 25, 'sound to come back', within);
  return Date.now() - cut - 500;
}

async function goesOn(t, { phone, patient, call }) {
  await patient.reach('connected');
  await sleep(2500);
  const heard = await patient.hear();
  assert.ok(Math.abs(heard.hz - 1000) <= 6 && heard.db > -20, `the patient hears ${heard.hz} Hz, ${heard.db} dB`);
  const { tone, all } = phone.listens();
  assert.ok(tone > -20 && all - tone < 0.5, `the telephone hears ${tone} dB of tone, ${all} dB in all`);
  const [now] = await gateway.calls();
  assert.equal(now.id, call.id, 'it is the same call');
  await patient.page.click('#hangup');
  phone.answer(await phone.hears('', /^BYE/), 200);
  await until(async () => (await gateway.calls()).length === 0, 'the call to be over');
}

test('the patient goes from one network to another: the call comes back', async (t) => {
  const all = await talking(t);
  moves('10.78.0.2', '10.78.0.3');
  t.after(() => moves('10.78.0.3', '10.78.0.2'));
  t.diagnostic(`silent for ${await gap(all.phone, 10_000)} ms`);
  await goesOn(t, all);
});

for (const [name, by, ...more] of [['the relay or the TCP port', ['relay', 'tcp']], ['the relay, where nothing else is left', ['relay'], '@ih,48,32 0x2112a442 drop']]) {
  test(`a path that goes silent is left for ${name}`, async (t) => {
    const all = await talking(t);
    assert.equal((await all.patient.way()).protocol, 'udp');
    lets('udp dport 18443 drop', ...more, 'accept');
    t.after(() => lets());
    t.diagnostic(`silent for ${await gap(all.phone, 20_000)} ms`);
    const way = await all.patient.way();
    assert.ok(by.includes(way.candidateType === 'relay' ? 'relay' : way.protocol), JSON.stringify(way));
    await goesOn(t, all);
  });
}

test('a patient who is lost: the telephone is told, and the page when it is back', async (t) => {
  const { phone, patient } = await talking(t);
  const since = Date.now();
  lets('drop');
  t.after(() => lets());
  const bye = await phone.hears('', /^BYE/, 25_000);
  phone.answer(bye, 200);
  t.diagnostic(`the telephone is told after ${Date.now() - since} ms`);
  assert.match(bye, /^Reason: .*cause=27/m);
  await until(async () => (await gateway.calls()).length === 0, 'the call to be over');
  lets();
  await patient.reach('ended', 20_000);
});

test('a relay that dies in a call is left for the next', async (t) => {
  const relays = [{ port: 15349, udp: 13479, ports: '25000-25099' }, { port: 15350, udp: 13480, ports: '25100-25199' }];
  await gateway.stop();
  const text = closedGateway().replace(/^turn: .*$/m, external(...relays));
  const running = await Promise.all(relays.map(startCoturn));
  gateway = await new Gateway(text).start();
  await browser.close();
  browser = await launchAtHome(); // the gateway's authority is another one now
  lets('@ih,32,32 0x2112a442 drop', '@ih,48,32 0x2112a442 drop', 'meta l4proto tcp accept'); // no way but a relay
  t.after(() => lets());
  const all = await talking(t);
  const url = (await all.patient.way()).url, used = relays.findIndex((r) => coturnURL(r) === url);
  assert.notEqual(used, -1, url);
  running[used].kill('SIGKILL');
  await running[used].over;
  const since = Date.now(), both = async () => [all.phone.packets, await all.patient.packets()];
  const before = await both();
  await until(async () => (await all.patient.way())?.url === coturnURL(relays[1 - used]), 'the other relay to be taken', 10_000);
  await until(async () => (await both()).every((n, i) => n > before[i] + 50), async () => `sound both ways, of which there was ${before}, then ${await both()}`, 5_000);
  t.diagnostic(`sound went on both ways within ${Date.now() - since} ms, 1000 of them to be sure`);
  await goesOn(t, all);
});
