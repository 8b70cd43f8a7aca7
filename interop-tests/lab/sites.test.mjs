// Two hospitals behind one portal: each visit finds its own, and neither minds the other.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { endAll, until } from '../lib/net.mjs';
import { Patient } from '../lib/page.mjs';
import { World } from './world.mjs';
import { launchAtHome } from './lab.mjs';
import { callFromHome } from './cell.mjs';

let world, browser;

before(async () => {
  world = await World.make();
  await world.startPortal();
  await world.startEngine('symmetric');
  await world.startSecond();
  world.atHome('cone');
  browser = await launchAtHome();
});

after(async () => {
  await browser?.close();
  await endAll();
  world?.drop();
});

const present = () => ['lisbon', 'porto'].map((site) => world.portalMetric(`sipbridge_engine_present{site="${site}"}`));

test('patients of each hospital call it and are called by it', async (t) => {
  assert.deepEqual(present(), [1, 1]);
  for (const hospital of [world, world.second]) {
    for (const calling of [true, false]) await callFromHome(t, { engine: hospital.engine, phone: (u) => hospital.phone(u) }, browser, calling);
  }
});

/** A patient's call to a hospital, with sound both ways. */
async function talk(t, hospital) {
  const phone = await hospital.phone(t);
  const patient = await Patient.open(t, browser, (await hospital.engine.invite('sip:1000@hospital')).url);
  await patient.reach('lobby');
  await patient.join();
  const invite = await phone.hears('', /^INVITE/);
  phone.answer(invite, 200, { tag: 's', sdp: true });
  phone.plays(invite);
  await patient.reach('connected', 20_000);
  await until(() => phone.packets > 50, 'sound from the patient');
  return { phone, patient };
}

/** A call that noticed nothing of what happened to others. */
async function goesOn({ phone, patient }) {
  const heard = phone.packets;
  await until(() => phone.packets > heard + 50, 'the other call to go on');
  assert.equal(await patient.state(), 'connected');
  assert.equal(await patient.text('notice'), '');
}

async function hangUp({ phone, patient }) {
  await patient.page.click('#hangup');
  phone.answer(await phone.hears('', /^BYE/), 200);
  phone.close();
}

const second = () => ({ engine: world.second.engine, phone: (u) => world.second.phone(u) });

test('a hospital that goes away in calls of both takes only its own along', async (t) => {
  const stays = await talk(t, world), goes = await talk(t, world.second);
  assert.deepEqual([(await world.engine.calls()).length, (await world.second.engine.calls()).length], [1, 1]);
  await world.second.engine.stop('SIGKILL');
  await goes.patient.told('The hospital cannot be reached at the moment');
  await until(() => present().join() === '1,0', () => `the portal to see that it is gone: ${present()}`, 20_000);
  await goesOn(stays);
  await world.second.engine.start();
  await until(() => present().join() === '1,1', 'the hospital to be back', 20_000);
  await hangUp(stays);
  goes.phone.close();
  await callFromHome(t, second(), browser, true);
});

test('a portal takes a hospital out, and in again, when its file says so', async (t) => {
  const whole = readFileSync(world.portal.file, 'utf8');
  const file = (text) => {
    writeFileSync(world.portal.file, text);
    world.portal.child.kill('SIGHUP');
  };
  const stays = await talk(t, world), goes = await talk(t, world.second);
  file(whole.replace(/sites:.*/, 'sites: {porto: {key: no key}}'));
  await until(() => /the sites stay as they were.*key/.test(world.portal.child.output), 'the fault to be told');
  assert.deepEqual(present(), [1, 1]);
  file(whole.replace(/, porto: {[^}]*}/, ''));
  await goes.patient.told('This link is not valid');
  await until(() => present().join() === '1,0', () => `the portal to see it off: ${present()}`);
  await until(async () => !await world.second.engine.metric('sipbridge_portal_reached'), 'the engine to be shut out');
  goes.phone.answer(await goes.phone.hears('', /^BYE/, 25_000), 200);
  await goesOn(stays);
  file(whole);
  await until(() => present().join() === '1,1', 'the hospital to be back', 30_000);
  await goesOn(stays);
  await hangUp(stays);
  goes.phone.close();
  await callFromHome(t, second(), browser, false);
});
