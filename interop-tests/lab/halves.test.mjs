// A hospital that lets nothing in, and perhaps nothing but a proxy out: portal
// outside, engine inside, and homes that are closed, too.
import { test, before, after } from 'node:test';
import { endAll, until } from '../lib/net.mjs';
import { homeFlags, World } from './world.mjs';
import { launchAtHome } from './lab.mjs';
import { callFromHome } from './cell.mjs';

let world;

before(async () => {
  world = await World.make(20);
  await world.startPortal();
});

after(async () => {
  await endAll();
  world?.drop();
});

// The diagonal and the worst cell; make lab runs them all.
for (const [hospital, home] of [['cone', 'cone'], ['symmetric', 'symmetric'], ['no UDP', 'no UDP'], ['proxy', 'proxy'], ['proxy', 'no UDP']]) {
  test(`hospital: ${hospital}, home: ${home}`, async (t) => {
    await world.startEngine(hospital);
    t.after(() => world.engine.stop());
    world.atHome(home);
    const browser = await launchAtHome(...homeFlags(home));
    t.after(() => browser.close());
    const lent = world.portalMetric('sipbridge_turn_allocations');
    for (const calling of [true, false]) {
      const seen = await callFromHome(t, world, browser, calling);
      t.diagnostic(`${calling ? 'a patient calls' : 'a patient is called'}: ${seen.ms} ms from Join to sound both ways, by ${seen.pair}, round trip ${seen.rtt} ms`);
    }
    // By UDP a browser says no farewell to the relay; by TLS the connection's end is one.
    if (hospital === 'proxy') await until(() => world.portalMetric('sipbridge_turn_allocations') === lent, 'every relay address to be given back');
  });
}
