// Speech through the gateway over a line that loses packets, and the judge itself.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { makeHospital, dropHospital, endAll, until } from '../lib/net.mjs';
import { makeHome, dropHome } from '../lab/lab.mjs';
import { Booth, exchange, speech } from './booth.mjs';
import { stoi } from './stoi.mjs';

const booth = new Booth();
let line;

before(async () => {
  makeHospital();
  line = await makeHome();
  await booth.open();
});

after(async () => {
  await booth.close();
  await endAll();
  dropHome();
  dropHospital();
});

test('the judge tells what is understood from what is not', () => {
  const { clean } = speech(0);
  let seed = 1;
  const noise = () => { seed = (seed * 48271) % 2147483647; return seed / 1073741823 - 1; };
  const loud = Math.sqrt(clean.reduce((s, v) => s + v * v, 0) / clean.length);
  const later = (n) => [...new Float64Array(n), ...clean];
  assert.ok(stoi(clean, clean) > 0.999);
  assert.ok(stoi(clean, later(1234)) > 0.99, 'a delay costs nothing');
  assert.ok(stoi(clean, [...clean.slice(0, 20000), ...clean.slice(19600)]) > 0.97, 'nor does time that a jitter buffer stretched');
  const noisy = stoi(clean, clean.map((v) => v + noise() * loud * 1.7)), drowned = stoi(clean, clean.map((v) => v + noise() * loud * 17));
  assert.ok(noisy < 0.85 && noisy > 0.4, `at 0 dB ${noisy}`);
  assert.ok(drowned < 0.5, `at -20 dB ${drowned}`);
});

test('the line loses, delays, doubles and reorders as it is told', async () => {
  const said = speech(1);
  await booth.with(['gateway'], async (pairs) => {
    const bad = { loss: 0.1, burst: 2, delay: 30, reorder: 0.1, duplicate: 0.05, seed: 7 };
    await line.ask(bad);
    await exchange(pairs, said);
    const { ab, ba } = await line.ask({ delay: 30 }); // the first round trip that is told may be of a report from before the line was slow
    for (const way of [ab, ba]) {
      assert.ok(way.Frames > 300, JSON.stringify(way));
      assert.ok(Math.abs(way.Lost / way.Frames - 0.1) < 0.07, JSON.stringify(way));
      assert.ok(way.Reordered > 10 && way.Duplicated > 5, JSON.stringify(way));
    }
    let browser, lost = 0;
    await until(async () => {
      [{ legs: [browser] }] = await booth.gateway.calls();
      const rtt = browser.media[0].rtt_ms;
      lost = Math.max(lost, browser.media[0].far_loss); // until a report comes that is about the line as it is now
      return rtt > 55 && rtt < 120 && lost > 0.01; // with one of the browser's next reports
    }, () => `a round trip of 60 ms, not ${browser.media[0].rtt_ms}, and a report of what was lost, ${lost}`, 15000);
    await line.ask({});
  });
});

test('speech is understood both ways where the line loses 5 % of the packets', async () => {
  await booth.with(['gateway'], async (pairs) => {
    const scores = { 'to the patient': [], 'to the telephone': [] };
    for (let n = 0; n < 3; n++) {
      await line.ask({ delay: 20, loss: 0.05, seed: 1000 + n });
      const said = speech(n);
      const { gateway } = await exchange(pairs, said);
      for (const way of Object.keys(scores)) scores[way].push(stoi(said.clean, gateway[way]));
    }
    await line.ask({});
    for (const [way, s] of Object.entries(scores)) {
      const mean = s.reduce((a, b) => a + b) / s.length;
      console.log(`# ${way}: ${s.map((v) => v.toFixed(3)).join(', ')}`);
      assert.ok(mean > 0.88, `${way}: ${mean}`);
    }
  });
});

test('speech is understood over a line with 5 % loss and 80 ms of jitter', async (t) => {
  const seen = { 'to the patient': [], 'to the telephone': [] };
  await line.ask({ delay: 20 });
  await booth.with(['gateway'], async (pairs) => {
    for (let n = 0; n < 5; n++) {
      const said = speech(n);
      await line.ask({ delay: 20, loss: 0.05, jitter: 80, seed: 300 + n });
      const { gateway: heard } = await exchange(pairs, said);
      for (const [way, all] of Object.entries(seen)) all.push(stoi(said.clean, heard[way]));
    }
  });
  await line.ask({});
  for (const [way, all] of Object.entries(seen)) {
    const median = all.sort((a, b) => a - b)[2];
    t.diagnostic(`${way}: ${all.map((v) => v.toFixed(2)).join(', ')}`);
    assert.ok(median >= 0.75, `${way}: ${median}`);
  }
});

test('the metrics tell of the sound of every call, once, by where it came from', async () => {
  const { gateway } = booth;
  await until(async () => (await gateway.calls()).length === 0, 'the calls to be over');
  const legs = gateway.records().flatMap((r) => r.legs);
  const told = (what, peer) => gateway.metric(`sipbridge_rtp_${what}{peer="${peer}"}`);
  for (const [kind, peer] of [['browser', 'browser'], ['sip', 'ward']]) {
    const sum = (key) => legs.filter((l) => l.kind === kind).reduce((s, l) => s + l[key], 0);
    const received = await told('received_total', peer);
    assert.ok(received > 3000 && Math.abs(received - sum('received')) <= 2 * legs.length, `${received} packets of ${peer}, ${sum('received')} in the records`); // some come while a call is buried
    const hidden = await told('concealed_seconds_total', peer);
    assert.ok(Math.abs(hidden - sum('concealed_ms') / 1000) <= 0.1, `${hidden} s of ${peer} concealed, ${sum('concealed_ms')} ms in the records`);
  }
  const received = await told('received_total', 'browser'), lost = await told('lost_total', 'browser');
  assert.ok(lost > 0.02 * received && lost < 0.15 * received, `${lost} of ${received} lost`); // each call's line loses 5 or 10 %
  assert.ok(await told('mos_count', 'browser') > gateway.records().length, 'calls of more than five seconds are measured while they last');
  assert.ok(await told('round_trip_seconds_sum', 'browser') > 0);
});
