// Trunks that do not answer, are gone, come back, or want no calls: a call goes the
// next way.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { makeHospital, dropHospital, startPBX, endAll, until } from '../lib/net.mjs';
import { Gateway, binary, config, token } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { answering, passes } from '../lib/sipp.mjs';

const trunks = `  silent: {address: "sip:10.77.0.4:5098", interface: pbx}
  kamailio: {address: "sip:10.77.0.2:5060", interface: pbx, options_every: 1s}
  other: {address: "sip:10.77.0.4:5070", interface: pbx, options_every: 0s}
  cluster: {address: "sip:10.77.0.4:5070", interface: pbx, options_every: 0s, targets: [{address: "sip:10.77.0.4:5060", priority: 1}]}
  pair: {address: "sip:10.77.0.4:5070", interface: pbx, options_every: 0s, targets: [{address: "sip:10.77.0.4:5060", priority: 1}]}
  spread: {address: "sip:10.77.0.4:5098", interface: pbx, options_every: 0s, targets: [{address: "sip:10.77.0.4:5070", priority: 2}, {address: "sip:10.77.0.4:5060", priority: 1}]}`;
const routes = ['silent', 'kamailio', 'other'].map((first) =>
  `  - {name: ${first} first, when: 'call.to.user == "${first}"', to: [trunk:${first}/1000, trunk:ward/1000]}`).join('\n') + `
  - {name: cluster, when: 'call.to.user == "cluster"', to: [trunk:cluster/1000]}
  - {name: pair, when: 'call.to.user == "pair"', to: [trunk:pair/1000]}
  - {name: spread, when: 'call.to.user == "spread"', to: [trunk:spread/1000]}`;

let gateway, browser;

before(async () => {
  makeHospital();
  gateway = await new Gateway(config({ routes, trunks }).replace('accept_from: [10.77.0.0/24], ', '')).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

const trunk = async (name) => (await gateway.api('GET', '/api/v1/trunks')).find((t) => t.name === name);

/** A patient calls; the ward, which is the second target, answers. Returns how long that took. */
async function reachesTheWard(t, first) {
  const ward = await answering('uas-until-bye.xml');
  const patient = await Patient.open(t, browser, (await gateway.invite(`sip:${first}@hospital`)).url);
  await patient.page.waitForSelector('#join:enabled');
  const began = Date.now();
  await patient.join();
  await patient.reach('connected');
  const took = Date.now() - began;
  await patient.page.click('#hangup');
  await passes(ward);
  return took;
}

test('a trunk that answers nothing costs a call four seconds; it is said to be silent, not down', async (t) => {
  const took = await reachesTheWard(t, 'silent');
  assert.ok(took > 3800 && took < 6000, `${took} ms`);
  assert.equal((await trunk('silent')).state, 'silent');
});

test('a trunk that answers much too late is acknowledged and hung up', async (t) => {
  const slow = await answering('uas-slow.xml', { port: 5070 });
  const took = await reachesTheWard(t, 'other');
  assert.ok(took < 6000, `${took} ms`);
  await passes(slow);
});

test('a trunk that is gone is passed over at once, and used again when it is back', async (t) => {
  const kamailio = await startPBX();
  await until(async () => (await trunk('kamailio')).state === 'up', 'the trunk to be up');
  assert.ok((await trunk('kamailio')).round_trip_ms > 0);
  kamailio.end();
  await kamailio.over;
  await until(async () => (await trunk('kamailio')).state === 'down', 'the trunk to be down', 15000);
  assert.equal(await gateway.metric('sipbridge_trunk_down{target="sip:10.77.0.2:5060",trunk="kamailio"}'), 1);
  const took = await reachesTheWard(t, 'kamailio');
  assert.ok(took < 2000, `${took} ms`);
  const printed = execFileSync(binary, ['trunks', '--admin', 'http://127.0.0.1:19090'], { env: { ...process.env, SIPBRIDGE_ADMIN_TOKEN: token }, encoding: 'utf8' });
  assert.match(printed, /kamailio +sip:10\.77\.0\.2:5060 +down +\d+s/);
  await startPBX();
  await until(async () => (await trunk('kamailio')).state === 'up', 'the trunk to be back', 15000);
  assert.equal(await gateway.metric('sipbridge_trunk_down{target="sip:10.77.0.2:5060",trunk="kamailio"}'), 0);
});

test('a trunk that asks for time is left alone for as long as it asks', async (t) => {
  const full = await answering('uas-full.xml', { port: 5070 });
  await reachesTheWard(t, 'other');
  await passes(full);
  const rest = new Date((await trunk('other')).rest_until) - Date.now();
  assert.ok(rest > 20000 && rest <= 30000, `${rest} ms`);
  const took = await reachesTheWard(t, 'other'); // nobody listens there now: it would take four seconds
  assert.ok(took < 2000, `${took} ms`);
});

test('a trunk with several addresses: a call goes to the next one when the first takes no calls', async (t) => {
  const full = await answering('uas-full.xml', { port: 5070 });
  const took = await reachesTheWard(t, 'cluster');
  assert.ok(took < 2000, `${took} ms`);
  await passes(full);
  const states = (await gateway.api('GET', '/api/v1/trunks')).filter((x) => x.name === 'cluster');
  assert.deepEqual(states.map((x) => x.address), ['sip:10.77.0.4:5070', 'sip:10.77.0.4:5060']);
  assert.ok(states[0].rest_until);
});

test('a trunk with several addresses: they are tried by priority, each for four seconds at most', async (t) => {
  const took = await reachesTheWard(t, 'spread');
  assert.ok(took > 3800 && took < 6000, `${took} ms`);
});

test('a trunk with several addresses: a busy telephone behind one of them is not called again by another', async (t) => {
  const busy = await answering('uas-busy.xml', { port: 5070 });
  const other = await answering('uas-until-bye.xml', { seconds: 5 });
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:pair@hospital')).url);
  await patient.page.waitForSelector('#join:enabled');
  await patient.join();
  await patient.reach('ended');
  assert.match(await patient.text('status'), /busy|engaged/i);
  await passes(busy);
  assert.doesNotMatch(other.messages(), /^INVITE /m);
  other.end();
  await other.over;
});
