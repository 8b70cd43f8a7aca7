// Two hospitals behind one portal: each visit finds its own, and neither minds the other.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
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

test('a hospital that goes away in calls of both takes only its own along', async (t) => {
  const talk = async (hospital) => {
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
  };
  const stays = await talk(world), goes = await talk(world.second);
  assert.deepEqual([(await world.engine.calls()).length, (await world.second.engine.calls()).length], [1, 1]);
  await world.second.engine.stop('SIGKILL');
  await goes.patient.told('The hospital cannot be reached at the moment');
  await until(() => present().join() === '1,0', () => `the portal to see that it is gone: ${present()}`, 20_000);
  const heard = stays.phone.packets;
  await until(() => stays.phone.packets > heard + 50, 'the other call to go on');
  assert.equal(await stays.patient.state(), 'connected');
  assert.equal(await stays.patient.text('notice'), '');
  await world.second.engine.start();
  await until(() => present().join() === '1,1', 'the hospital to be back', 20_000);
  await stays.patient.page.click('#hangup');
  stays.phone.answer(await stays.phone.hears('', /^BYE/), 200);
  goes.phone.close();
  await callFromHome(t, { engine: world.second.engine, phone: (u) => world.second.phone(u) }, browser, true);
});
