// A hospital that lets nothing in, and perhaps nothing but a proxy out: portal
// outside, engine inside, and homes that are closed, too.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { at } from '../lib/certificates.mjs';
import { endAll, until } from '../lib/net.mjs';
import { homeFlags, portalAddress, World } from './world.mjs';
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

test('sipbridge probe names the ways out of each hospital, and what to ask of its firewall', () => {
  const ask = (...more) => world.inHospital('probe', '--portal', `https://${portalAddress}`, '--ca-file', at('ca.pem'), ...more);
  const proxy = ['--proxy', 'http://ward:s3cret@10.20.0.1:3128'];
  const seen = {};
  for (const [name, hospital, more] of [['cone', 'cone', []], ['no UDP', 'no UDP', []], ['proxy', 'proxy', []], ['by proxy', 'proxy', proxy]]) {
    world.atHospital(hospital);
    const r = ask('--json', ...more);
    const f = JSON.parse(r.out);
    seen[name] = [f.tcp.works, f.by_proxy?.works, f.tls.works, f.websocket.works, f.turn_udp.works, f.turn_tls.works, r.code];
    if (f.websocket.works) assert.ok(f.up_kbit_s > 330 && f.down_kbit_s > 330, JSON.stringify(f));
    assert.ok(!r.out.includes('s3cret'));
  }
  assert.deepEqual(seen, {
    cone: [true, undefined, true, true, true, true, 0],
    'no UDP': [true, undefined, true, true, false, true, 0],
    proxy: [false, undefined, false, false, false, false, 1],
    'by proxy': [false, true, true, true, false, true, 0],
  });
  assert.match(ask('--lang', 'pt').out, /Para enviar a quem gere a firewall[^]*TCP para 203\.0\.113\.1, porta 443[^]*UDP para 203\.0\.113\.1, porta 3478/);
  const wrong = ask('--proxy', 'http://ward:no@10.20.0.1:3128');
  assert.match(wrong.out, /wants another user or password/);
  assert.match(world.inHospital('probe', '--portal', `https://${portalAddress}`, ...proxy).out, /signed by CN=ca, who is not believed/);
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
