// A thousand calls, SIPp against patients without browsers: nothing is left behind.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { makeHospital, dropHospital, endAll, until, sleep, track } from '../lib/net.mjs';
import { Gateway, config, binary } from '../lib/gateway.mjs';
import { sipp } from '../lib/sipp.mjs';

const settle = 33_000; // 64*T1 and a little

let gateway;

before(async () => {
  makeHospital();
  gateway = await new Gateway(config({ routes: `  - {name: telephones to patients, to: [visit]}` })).start({ GOGC: '20' });
});

after(async () => {
  await endAll();
  dropHospital();
});

test('after 1,000 calls goroutines, descriptors, ports and heap are back where they were', { timeout: 400_000 }, async (t) => {
  const invites = [];
  for (let i = 0; i < 4; i++) {
    const inv = await gateway.invite('sip:1000@hospital');
    const patient = track(spawn(binary, ['load', 'patient', '--codec', 'opus', inv.url], { stdio: ['ignore', 'pipe', 'pipe'] }));
    await until(() => patient.output.includes('welcome'), () => patient.output);
    invites.push(inv);
  }
  const run = async (calls) => {
    const phones = invites.map((inv, i) => sipp('uac-short.xml', { service: inv.dial_code, calls: calls / 4, limit: 1, rate: 50, port: 5060 + 2 * i,
      extra: ['-mp', String(6000 + 100 * i)] }));
    for (const p of phones) assert.equal(await p.over, 0, p.errors().slice(-2000) + p.output.slice(-500));
  };
  await run(20);
  await sleep(settle);
  const begin = await gateway.holds();
  await run(500);
  await sleep(settle);
  const half = await gateway.holds();
  await run(500);
  await sleep(settle);
  const end = await gateway.holds();
  for (const [k, v] of Object.entries({ begin, half, end })) t.diagnostic(`${k}: ${JSON.stringify(v)}`);
  assert.equal(end.ports, 0);
  assert.equal(end.dialogs, 0);
  assert.ok(end.goroutines <= begin.goroutines + 3, 'goroutines');
  assert.ok(end.fds <= begin.fds + 3, 'descriptors');
  // The bus remembers which subjects go where, a megabyte full, and forgets them all at a thousand.
  assert.ok(end.heap - half.heap < 2 << 20, `the heap grew by ${end.heap - half.heap} bytes over calls 500 to 1,000`);
  assert.equal(gateway.records().length, 1020);
});
