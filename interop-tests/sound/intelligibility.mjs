// How well speech is understood through the gateway, over a line that loses
// packets, beside Chromium to Chromium and rtpengine on the same line at the same
// time. Writes docs/sound.md.
import { writeFileSync } from 'node:fs';
import { makeHospital, dropHospital, endAll } from '../lib/net.mjs';
import { makeHome, dropHome } from '../lab/lab.mjs';
import { Booth, exchange, speech } from './booth.mjs';
import { stoi } from './stoi.mjs';

const runs = Number(process.env.SOUND_RUNS ?? 20), group = 5;
const lines = [{ name: 'no loss', loss: 0 }, { name: '5 % loss', loss: 0.05 }, { name: '15 % loss in bursts of three', loss: 0.15, burst: 3 }];
const systems = ['gateway', 'nothing', 'rtpengine'];
const called = { gateway: 'sipbridge', nothing: 'Chromium to Chromium', rtpengine: 'rtpengine' };

const results = []; // { line, way, run, gateway, nothing, rtpengine }
makeHospital();
const booth = new Booth();
try {
  const line = await makeHome();
  await booth.open();
  await booth.rtpengine();
  for (const l of lines) {
    for (let run = 0; run < runs; run += group) {
      await line.ask({ delay: 20 });
      const first = (run / group) % systems.length; // whose call stands while the others are set up
      await booth.with([...systems.slice(first), ...systems.slice(0, first)], async (pairs) => {
        for (let n = run; n < Math.min(run + group, runs); n++) {
          const said = speech(n);
          const bad = { delay: 20, loss: l.loss, burst: l.burst ?? 1, seed: 1000 + n };
          await line.ask(bad);
          const heard = await exchange(pairs, said);
          const was = await line.ask(bad);
          const lost = ['ab', 'ba'].map((w) => was[w].Lost / was[w].Frames);
          for (const way of ['to the patient', 'to the telephone']) {
            const r = { line: l.name, way, run: n, ...Object.fromEntries(systems.map((s) => [s, stoi(said.clean, heard[s][way])])) };
            results.push(r);
            console.log(`${l.name}, ${way}, run ${n + 1}: ${systems.map((s) => `${called[s]} ${r[s].toFixed(3)}`).join(', ')}; lost ${lost.map((x) => (100 * x).toFixed(1)).join(' and ')} %`);
          }
        }
      });
    }
  }
} finally {
  await booth.close();
  await endAll();
  dropHome();
  dropHospital();
}

const mean = (v) => v.reduce((a, b) => a + b, 0) / v.length;
// Student's t, 97.5 %, for n - 1 degrees of freedom; beyond the table the normal value is near enough.
const student = [NaN, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09];
/** The mean of the differences and half the width of its 95 % interval. */
function difference(list, a, b) {
  const d = list.map((r) => r[a] - r[b]);
  const m = mean(d);
  const s = Math.sqrt(d.reduce((t, x) => t + (x - m) ** 2, 0) / (d.length - 1));
  return `${m >= 0 ? '+' : ''}${m.toFixed(3)} (${(m - (student[d.length - 1] ?? 1.98) * s / Math.sqrt(d.length)).toFixed(3)} to ${(m + (student[d.length - 1] ?? 1.98) * s / Math.sqrt(d.length)).toFixed(3)})`;
}

const rows = lines.flatMap((l) => ['to the patient', 'to the telephone'].map((way) => {
  const list = results.filter((r) => r.line === l.name && r.way === way);
  return `| ${l.name} | ${way} | ${systems.map((s) => mean(list.map((r) => r[s])).toFixed(3)).join(' | ')} | ${difference(list, 'gateway', 'nothing')} | ${difference(list, 'gateway', 'rtpengine')} |`;
}));
writeFileSync(new URL('../../docs/sound.md', import.meta.url), `# Sound over bad lines

Written by \`make sound\`; do not edit.

A telephone in the hospital (G.711) and a patient's Chromium (Opus) talk over a line of ours that delays by 20 ms
and loses RTP packets. Three calls go over it at once: through sipbridge, from Chromium to Chromium, and through
rtpengine 10.5; each loses the same packets of its flow (one seed a run). Both ends speak at once, ${runs} sentences by a
synthesizer in eight voices. What arrives is judged by short-time objective intelligibility (0 to 1) in the
telephone's band (8 kHz), each 300 ms put back where they were said, because jitter buffers stretch time. The
telephone conceals what never reaches it, by the method of ITU-T G.711 Appendix I.

| line | sound | ${systems.map((s) => called[s]).join(' | ')} | sipbridge less Chromium, 95 % | sipbridge less rtpengine, 95 % |
| --- | --- | --- | --- | --- | --- | --- |
${rows.join('\n')}
`);
