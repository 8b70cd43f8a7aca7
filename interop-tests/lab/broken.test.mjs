// What breaks between two halves, and comes back: the portal, the proxy, the engine.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { endAll, sleep, until } from '../lib/net.mjs';
import { Patient } from '../lib/page.mjs';
import { homeFlags, World } from './world.mjs';
import { launchAtHome } from './lab.mjs';

let world;

before(async () => {
  world = await World.make(20);
  await world.startPortal();
});

after(async () => {
  await endAll();
  world?.drop();
});

/** A call of a patient's, with sound both ways. */
async function talking(t, hospital, home) {
  await world.startEngine(hospital);
  t.after(() => world.engine.stop());
  world.atHome(home);
  const browser = await launchAtHome(...homeFlags(home));
  t.after(() => browser.close());
  const phone = await world.phone(t);
  const patient = await Patient.open(t, browser, (await world.engine.invite('sip:1000@hospital')).url);
  await patient.reach('lobby');
  await patient.join();
  const invite = await phone.hears('', /^INVITE/);
  phone.answer(invite, 200, { tag: 'b', sdp: true });
  phone.plays(invite);
  await patient.reach('connected', 20_000);
  await until(() => phone.packets > 50, 'sound from the patient', 20_000);
  const [call] = await world.engine.calls();
  return { phone, patient, call };
}

/** Waits until the tone is heard at both ends of the same call; returns how long that took since a moment. */
async function comesBack({ phone, patient, call }, since, within) {
  const from = phone.packets;
  await until(() => phone.packets > from + 25, async () => `sound at the telephone; the page: ${await patient.state()}`, within);
  const ms = Date.now() - since;
  await patient.reach('connected', within);
  await sleep(2500);
  const heard = await patient.hear();
  assert.ok(Math.abs(heard.hz - 1000) <= 6 && heard.db > -20, `the patient hears ${heard.hz} Hz, ${heard.db} dB`);
  const { tone, all } = phone.listens();
  assert.ok(tone > -20 && all - tone < 0.5, `the telephone hears ${tone} dB of tone, ${all} dB in all`);
  const calls = await world.engine.calls();
  assert.deepEqual(calls.map((c) => c.id), [call.id], 'it is the same call');
  return ms;
}

async function over({ phone, patient }) {
  await patient.page.click('#hangup');
  phone.answer(await phone.hears('', /^BYE/), 200);
  await until(async () => (await world.engine.calls()).length === 0, 'the call to be over');
}

test('the portal is started anew in a call whose sound goes by its relay: sound comes back', async (t) => {
  const talk = await talking(t, 'no UDP', 'no UDP');
  await world.portal.stop();
  const since = Date.now();
  await world.startPortal();
  t.diagnostic(`sound is back after ${await comesBack(talk, since, 12_000)} ms`);
  await over(talk);
});

test('the portal is started anew in a call whose sound does not need it: nobody hears it', async (t) => {
  const talk = await talking(t, 'cone', 'cone');
  const { own, other } = await talk.patient.pair();
  assert.ok(own.candidateType !== 'relay' && other.candidateType !== 'relay', `${own.candidateType}-${other.candidateType}`);
  await world.portal.stop();
  const before = talk.phone.packets, began = Date.now();
  await world.startPortal();
  await until(() => world.engine.metric('sipbridge_portal_reached'), 'the engine to come back', 20_000);
  const missed = (Date.now() - began) / 20 - (talk.phone.packets - before);
  assert.ok(missed < 25, `${missed} packets were missed`);
  await talk.patient.reach('connected');
  await over(talk);
});

test('the proxy is started anew in a call: bus and sound come back', async (t) => {
  const talk = await talking(t, 'proxy', 'no UDP');
  const since = Date.now();
  world.proxies.fire.end();
  await world.proxies.fire.over;
  await world.proxy('fire');
  t.diagnostic(`sound is back after ${await comesBack(talk, since, 15_000)} ms`);
  await over(talk);
});

test('a patient whose hospital is not there is told so, and served when it is', async (t) => {
  await world.startEngine('no UDP');
  world.atHome('no UDP');
  const inv = await world.engine.invite('sip:1000@hospital');
  const browser = await launchAtHome();
  t.after(() => browser.close());
  await world.engine.stop();
  const patient = await Patient.open(t, browser, inv.url);
  await patient.told('The hospital cannot be reached at the moment');
  await world.engine.start();
  t.after(() => world.engine.stop());
  await patient.reach('lobby', 20_000);
  assert.equal(await patient.text('notice'), '');
});

test('a link to a site that the portal does not know is not valid', async (t) => {
  world.atHome('cone');
  const browser = await launchAtHome();
  t.after(() => browser.close());
  const patient = await Patient.open(t, browser, 'https://203.0.113.1/v/nowhere.0123456789');
  await patient.told('This link is not valid');
});

test('an idle portal shows its one TCP port and the port of TURN', () => {
  assert.deepEqual(world.scan(), [443]);
  assert.deepEqual(world.listensUDP(), [3478]);
});
