// A telephone without telephone-events: its keys are tones in the sound.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeHospital, dropHospital, startPBX, endAll, until, sleep } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { Telephone } from '../lib/baresip.mjs';

const keys = '0123456789*#ABCD';
const rows = [697, 770, 852, 941], columns = [1209, 1336, 1477, 1633], pad = '123A456B789C*0#D';

let gateway, browser;

before(async () => {
  makeHospital();
  await startPBX();
  const routes = '  - {name: patients to telephones, when: \'call.source == "browser"\', to: [trunk:pbx], codecs: [PCMA]}';
  gateway = await new Gateway(config({ routes, pbx: 'dtmf: inband' })).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

/** A WAV of two seconds of silence, then every key for 100 ms with 100 ms between, then silence. */
function dialling() {
  const dir = mkdtempSync(join(tmpdir(), 'sipbridge-tones-'));
  const part = (name, ...effects) => { const f = join(dir, name); execFileSync('sox', ['-n', '-r', '8000', '-c', '1', '-b', '16', f, ...effects]); return f; };
  const gap = part('gap.wav', 'trim', '0', '0.1');
  const list = [part('begin.wav', 'trim', '0', '4')];
  for (const [i, k] of [...keys].entries()) {
    const at = pad.indexOf(k);
    list.push(part(`${i}.wav`, 'synth', '0.1', 'sine', String(rows[at >> 2]), 'synth', '0.1', 'sine', 'mix', String(columns[at & 3]), 'vol', '0.4'), gap);
  }
  const all = join(dir, 'all.wav');
  execFileSync('sox', [...list, part('end.wav', 'trim', '0', '60'), all]);
  return all;
}

/** The keys in a recording of 16-bit samples, by their tones. */
function pressed(samples, rate) {
  const n = Math.round(rate * 0.02);
  const power = (at, hz) => {
    let re = 0, im = 0;
    for (let i = 0; i < n; i++) { re += samples[at + i] * Math.cos(2 * Math.PI * hz * i / rate); im += samples[at + i] * Math.sin(2 * Math.PI * hz * i / rate); }
    return Math.hypot(re, im) / n;
  };
  let out = '', last = '';
  for (let at = 0; at + n <= samples.length; at += n) {
    const best = (list) => list.map((hz) => power(at, hz)).reduce((m, v, i) => (v > m.v ? { v, i } : m), { v: 0, i: 0 });
    const r = best(rows), c = best(columns);
    const k = Math.min(r.v, c.v) > 500 ? pad[4 * r.i + c.i] : '';
    if (k && k !== last) out += k;
    last = k;
  }
  return out;
}

test('16 keys cross both ways as tones, each exactly once', async (t) => {
  const phone = await new Telephone('1001', 'PCMA', dialling()).start(t);
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:1001@hospital')).url);
  await patient.reach('lobby');
  await patient.join();
  await patient.reach('connected');
  await patient.page.click('#mute'); // the tone of its microphone would lie over the keys
  await until(async () => (await patient.text('digits')).length >= keys.length, async () => `the page shows ${await patient.text('digits')}`, 20000);
  await sleep(500);
  assert.equal(await patient.text('digits'), keys);
  const before = phone.samples().length;
  for (const k of keys) {
    await patient.press(k);
    await sleep(300);
  }
  await sleep(1000);
  const { rate } = phone;
  assert.equal(pressed(phone.samples().subarray(before), rate), keys);
});
