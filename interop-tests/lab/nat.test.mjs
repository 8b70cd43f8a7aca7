// A whole gateway in the hospital, behind a firewall that gives it an address of its
// own: browsers are told that one, telephones never.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { endAll } from '../lib/net.mjs';
import { hospitalAddress, World } from './world.mjs';
import { launchAtHome } from './lab.mjs';
import { callFromHome } from './cell.mjs';

let world;

before(async () => {
  world = await World.make(20);
  await world.startBehindNAT();
});

after(async () => {
  await endAll();
  world?.drop();
});

for (const [home, ways] of [['cone', /^(host|srflx|prflx)-/], ['no UDP', /^(prflx|relay\/tls)-/], ['UDP to the relay alone', /^relay\/udp-/]]) {
  test(`a gateway behind 1:1 NAT, home: ${home}`, async (t) => {
    world.atHome(home);
    const browser = await launchAtHome();
    t.after(() => browser.close());
    for (const calling of [true, false]) {
      const seen = await callFromHome(t, world, browser, calling);
      t.diagnostic(`${calling ? 'a patient calls' : 'a patient is called'}: ${seen.ms} ms from Join to sound both ways, by ${seen.pair}, round trip ${seen.rtt} ms`);
      assert.match(seen.pair, ways);
      assert.equal(seen.far, hospitalAddress);
      assert.ok(!seen.told.includes(hospitalAddress) && seen.told.includes('10.77.0.1'), 'a PBX is told our inner address alone');
    }
  });
}

test('a portal behind 1:1 NAT takes the place of the gateway', async () => {
  await world.engine.stop();
  await world.startPortalBehindNAT();
  await world.startSecond(hospitalAddress);
});

for (const [home, ways] of [['cone', /^(host|srflx|prflx)-/], ['no UDP', /^relay\/tls-/], ['UDP to the relay alone', /^relay\/udp-/]]) {
  test(`a portal behind 1:1 NAT, home: ${home}`, async (t) => {
    world.atHome(home);
    const browser = await launchAtHome();
    t.after(() => browser.close());
    for (const calling of [true, false]) {
      const seen = await callFromHome(t, world.second, browser, calling);
      t.diagnostic(`${calling ? 'a patient calls' : 'a patient is called'}: ${seen.ms} ms from Join to sound both ways, by ${seen.pair}, round trip ${seen.rtt} ms`);
      assert.match(seen.pair, ways);
    }
  });
}
