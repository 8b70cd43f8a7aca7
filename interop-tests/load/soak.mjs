// Hours of calls: 25 at a time, a minute each, untouched and Opus in turn. Prints a
// line a round and, at the end, what was left behind; exit 1 if anything was.
import { spawn } from 'node:child_process';
import { makeHospital, dropHospital, endAll, track, sleep } from '../lib/net.mjs';
import { Gateway, binary, config, token } from '../lib/gateway.mjs';

const end = Date.now() + Number(process.env.SOAK_HOURS ?? 2) * 3600e3;
const talk = process.env.SOAK_TALK ?? '60s';
const settle = 33_000; // 64*T1 and a little

makeHospital();
let failed = false;
try {
  const gateway = await new Gateway(config({ routes: '  - {name: opus, to: [visit], codecs: [opus, PCMU]}' })).start({ GOGC: '20' });
  const round = async (codec) => {
    const load = track(spawn(binary, ['load', 'calls', '--calls', '25', '--codec', codec, '--talk', talk],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, SIPBRIDGE_ADMIN_TOKEN: token } }));
    await load.over;
    const line = load.output.split('\n').find((l) => l.startsWith('{'));
    if (!line) throw new Error(load.output);
    return JSON.parse(line);
  };
  // What is made once is made, and the bus's caches, which have a bound, are full.
  const warm = Date.now() + (end - Date.now()) / 4;
  let begin, calls = 0, lost = 0;
  for (let n = 1; Date.now() < end; n++) {
    if (!begin && Date.now() > warm) {
      await sleep(settle);
      begin = await gateway.holds();
    }
    const codec = n % 2 ? 'PCMU' : 'opus';
    const r = await round(codec);
    calls += r.Calls;
    lost += r.Failed;
    const h = await gateway.holds();
    console.log(`${new Date().toISOString()} round ${n}: ${r.Calls} ${codec} calls, ${r.Failed} failed, ${(100 * r.LostToWeb).toFixed(2)} % of the packets lost; heap ${(h.heap / 1e6).toFixed(2)} MB, ${h.goroutines} goroutines`);
  }
  await sleep(settle);
  const left = await gateway.holds();
  console.log(`${calls} calls, ${lost} failed\n| | after a quarter of the time | at the end |\n| --- | --- | --- |`);
  for (const k of Object.keys(begin)) console.log(`| ${k} | ${begin[k]} | ${left[k]} |`);
  failed = lost > 0 || left.ports > 0 || left.dialogs > 0 || left.goroutines > begin.goroutines + 3 || left.fds > begin.fds + 3 || left.heap > begin.heap + (2 << 20);
  console.log(failed ? 'something was left behind' : 'nothing was left behind');
  await gateway.stop();
} finally {
  await endAll();
  dropHospital();
}
process.exitCode = failed ? 1 : 0;
