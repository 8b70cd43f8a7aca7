// What a whole call costs: processor time and memory with 25, 50 and 100 calls,
// G.711 telephones towards WebRTC patients, untouched and Opus, through the
// gateway and, in turn and with the same streams, through rtpengine. Prints a
// table and writes bench.json.
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { makeHospital, dropHospital, endAll, track, until } from '../lib/net.mjs';
import { Gateway, config, binary, token } from '../lib/gateway.mjs';

const cpu = (pid) => readdirSync(`/proc/${pid}/task`).reduce((sum, t) => {
  try { return sum + Number(readFileSync(`/proc/${pid}/task/${t}/schedstat`, 'utf8').split(' ')[0]); } catch { return sum; }
}, 0) / 1e6;
const rss = (pid) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]);

// ---- what stands between the telephones and the patients ----

async function ours(codec) {
  const gateway = await new Gateway(config({ routes: `  - {name: telephones to patients, to: [visit], codecs: [${codec}]}` })).start();
  return { pid: gateway.child.pid, args: [], stop: () => gateway.stop(), goroutines: () => gateway.metric('go_goroutines') };
}

async function rtpengine() {
  const child = track(spawn('rtpengine', ['--table=-1', '--config-file=none', '--interface=127.0.0.1', '--listen-ng=127.0.0.1:12223', '--foreground',
    '--log-level=3', '--port-min=30000', '--port-max=33999', '--pidfile=/dev/null'], { stdio: ['ignore', 'pipe', 'pipe'] }));
  await new Promise((r) => setTimeout(r, 1000));
  return { pid: child.pid, args: ['--rtpengine', '127.0.0.1:12223'], stop: () => { child.end('SIGTERM'); return child.over; }, goroutines: () => 0 };
}

async function run(name, make, codec, calls, seconds) {
  const engine = await make(codec);
  const idle = rss(engine.pid);
  const load = track(spawn(binary, ['load', 'calls', '--calls', String(calls), '--codec', codec, '--talk', `${seconds + 2}s`, ...engine.args],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, SIPBRIDGE_ADMIN_TOKEN: token } }));
  await until(() => load.output.includes('up'), () => load.output, 60000);
  await new Promise((r) => setTimeout(r, 1500));
  const from = cpu(engine.pid), at = Date.now();
  await new Promise((r) => setTimeout(r, seconds * 1000));
  const spent = cpu(engine.pid) - from, span = (Date.now() - at) / 1000;
  const memory = rss(engine.pid) - idle;
  const goroutines = await engine.goroutines();
  await load.over;
  const result = JSON.parse(load.output.split('\n').find((l) => l.startsWith('{')));
  await engine.stop();
  if (result.Failed || result.LostToWeb > 0.1) console.log(`${name} ${codec} ${calls}: ${result.Failed} calls failed, ${(100 * result.LostToWeb).toFixed(1)} % lost: ${load.output.slice(0, 300)}`);
  return { name, codec, calls, cpu: spent / span / calls, memory: memory / calls, goroutines: goroutines / calls, ...result };
}

const seconds = Number(process.env.BENCH_SECONDS ?? 10);
makeHospital();
const rows = [];
console.log('| | sound | calls | CPU ms a call-second | KiB a call | goroutines a call | set-up median / 95th, ms | latency median / 99th, ms | lost |');
console.log('| --- | --- | --- | --- | --- | --- | --- | --- | --- |');
try {
  for (const codec of ['PCMU', 'opus']) for (const calls of [25, 50, 100]) for (const [name, make] of [['sipbridge', ours], ['rtpengine', rtpengine]]) {
    if (name === 'rtpengine' && codec === 'opus' && calls > 25) continue; // it transcodes some 22 calls a core, then collapses
    const r = await run(name, make, codec, calls, seconds);
    rows.push(r);
    const ms = (x) => (x ? x.toFixed(2) : '-');
    console.log(`| ${name} | ${codec === 'PCMU' ? 'PCMU untouched' : 'PCMU <-> Opus'} | ${calls} | ${r.cpu.toFixed(2)} | ${r.memory.toFixed(0)} | ${r.goroutines ? r.goroutines.toFixed(0) : '-'} | ${r.MedianMS.toFixed(1)} / ${r.P95MS.toFixed(1)} | ${ms(r.Latency50)} / ${ms(r.Latency99)} | ${(100 * r.LostToWeb).toFixed(2)} % |`);
  }
} finally {
  await endAll();
  dropHospital();
}
const of = (codec, calls, name = 'sipbridge') => rows.find((r) => r.codec === codec && r.calls === calls && r.name === name);
const slope = (codec) => (of(codec, 100).memory * 100 - of(codec, 25).memory * 25) / 75;
const result = {
  passthrough_gcm_cpu_vs_rtpengine: of('PCMU', 100).cpu / of('PCMU', 100, 'rtpengine').cpu,
  opus_cpu_vs_rtpengine: of('opus', 25).cpu / of('opus', 25, 'rtpengine').cpu,
  passthrough_cpu_ms_per_call_second: of('PCMU', 100).cpu, opus_cpu_ms_per_call_second: of('opus', 100).cpu,
  memory_kib_per_call: slope('PCMU'), memory_kib_per_call_opus: slope('opus'),
  invite_to_200_ms_median: of('PCMU', 100).MedianMS, invite_to_200_ms_p95: of('PCMU', 100).P95MS,
  added_latency_ms_median: of('PCMU', 100).Latency50, added_latency_ms_p99: of('PCMU', 100).Latency99,
};
writeFileSync(new URL('../../bench.json', import.meta.url), `${JSON.stringify(result, null, 1)}\n`);
console.log(JSON.stringify(result, null, 1));
