// What a whole call costs: the gateway's processor time and memory with 25, 50
// and 100 calls, G.711 telephones towards WebRTC patients, untouched and Opus.
// Prints a table and writes bench.json.
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { makeHospital, dropHospital, endAll, track, until } from '../lib/net.mjs';
import { Gateway, config, binary, token } from '../lib/gateway.mjs';

const cpu = (pid) => readdirSync(`/proc/${pid}/task`).reduce((sum, t) => {
  try { return sum + Number(readFileSync(`/proc/${pid}/task/${t}/schedstat`, 'utf8').split(' ')[0]); } catch { return sum; }
}, 0) / 1e6;
const rss = (pid) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]);

async function run(codec, calls, seconds) {
  const gateway = await new Gateway(config({ routes: `  - {name: telephones to patients, to: [visit], codecs: [${codec}]}` })).start();
  const pid = gateway.child.pid;
  const idle = rss(pid);
  const load = track(spawn(binary, ['load', 'calls', '--calls', String(calls), '--codec', codec, '--talk', `${seconds + 2}s`],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, SIPBRIDGE_ADMIN_TOKEN: token } }));
  await until(() => load.output.includes('up'), () => load.output, 60000);
  await new Promise((r) => setTimeout(r, 1500));
  const from = cpu(pid), at = Date.now();
  await new Promise((r) => setTimeout(r, seconds * 1000));
  const spent = cpu(pid) - from, span = (Date.now() - at) / 1000;
  const memory = rss(pid) - idle;
  const goroutines = await gateway.metric('go_goroutines');
  await load.over;
  const result = JSON.parse(load.output.split('\n').find((l) => l.startsWith('{')));
  await gateway.stop();
  return { codec, calls, cpu: spent / span / calls, memory: memory / calls, goroutines: goroutines / calls, ...result };
}

const seconds = Number(process.env.BENCH_SECONDS ?? 10);
makeHospital();
const rows = [];
try {
  for (const codec of ['PCMU', 'opus']) for (const calls of [25, 50, 100]) {
    const r = await run(codec, calls, seconds);
    rows.push(r);
    console.log(`${codec.padEnd(5)} ${String(calls).padStart(4)} calls  ${r.cpu.toFixed(2).padStart(6)} ms CPU a call-second  ${r.memory.toFixed(0).padStart(5)} KiB a call  ${r.goroutines.toFixed(0).padStart(3)} goroutines a call  INVITE to 200 ${r.MedianMS.toFixed(1)} / ${r.P95MS.toFixed(1)} ms  failed ${r.Failed}  lost ${(100 * r.LostToWeb).toFixed(2)} %`);
  }
} finally {
  await endAll();
  dropHospital();
}
const of = (codec, calls) => rows.find((r) => r.codec === codec && r.calls === calls);
const slope = (codec) => (of(codec, 100).memory * 100 - of(codec, 25).memory * 25) / 75;
writeFileSync(new URL('../../bench.json', import.meta.url), JSON.stringify({
  passthrough_cpu_ms_per_call_second: of('PCMU', 100).cpu, opus_cpu_ms_per_call_second: of('opus', 100).cpu,
  memory_kib_per_call: slope('PCMU'), memory_kib_per_call_opus: slope('opus'), invite_to_200_ms_median: of('PCMU', 100).MedianMS,
  invite_to_200_ms_p95: of('PCMU', 100).P95MS }, null, 1));
console.log(`memory, slope from 25 to 100 calls: ${slope('PCMU').toFixed(0)} KiB untouched, ${slope('opus').toFixed(0)} KiB Opus`);
