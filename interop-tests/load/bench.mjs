// What a whole call costs, beside rtpengine: G.711 telephones towards WebRTC
// patients that echo, through the gateway and, in turn and with the same streams,
// through rtpengine; each on the machine's first core, the generator on its
// second. Writes bench.json, docs/performance.md with its picture, and the table in
// the README.
import { spawn, execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { makeHospital, dropHospital, endAll, track, until } from '../lib/net.mjs';
import { Gateway, config, binary, token } from '../lib/gateway.mjs';
import { document, picture, readme } from './report.mjs';

const turns = Number(process.env.BENCH_TURNS ?? 5);
const seconds = Number(process.env.BENCH_SECONDS ?? 8);

/** Processor time of every thread since it began, in ms. */
const cpu = (pid) => readdirSync(`/proc/${pid}/task`).reduce((sum, t) => {
  try { return sum + Number(readFileSync(`/proc/${pid}/task/${t}/schedstat`, 'utf8').split(' ')[0]); } catch { return sum; }
}, 0) / 1e6;
const rss = (pid) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]);
const sleep = (ms) => new Promise((r) => setTimeout(r, ms));
export const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

// ---- what stands between the telephones and the patients ----

const engines = {
  async sipbridge(cell) {
    const text = config({ routes: `  - {name: telephones to patients, to: [visit], codecs: [${cell.codec}]}` })
      .replace('interfaces: {', 'interfaces: {lo: {address: 127.0.0.1}, ').replace('webrtc_port: 18443', 'webrtc_port: 18443, interface: lo')
      .replace('rtp_ports: 20000-20999', 'rtp_ports: 20000-23999');
    const gateway = await new Gateway(text).start({ GOMAXPROCS: '1' });
    return { pid: gateway.child.pid, args: [], stop: () => gateway.stop(), goroutines: () => gateway.metric('go_goroutines') };
  },
  async rtpengine() {
    const child = track(spawn('rtpengine', ['--table=-1', '--config-file=none', '--interface=127.0.0.1', '--listen-ng=127.0.0.1:12223', '--foreground',
      '--log-level=3', '--num-threads=1', '--port-min=30000', '--port-max=33999', '--pidfile=/dev/null'], { stdio: ['ignore', 'pipe', 'pipe'] }));
    await sleep(1000);
    return { pid: child.pid, args: ['--rtpengine', '127.0.0.1:12223'], stop: () => { child.end('SIGTERM'); return child.over; }, goroutines: () => 0 };
  },
};

const speech = new URL('../../internal/demo/prompts/greeting.ulaw', import.meta.url).pathname;

/** The generator, on the second core. */
const generate = (cell, ...more) => track(spawn('taskset', ['-c', '1', binary, 'load', 'calls', '--calls', String(cell.calls), '--codec', cell.codec, '--srtp', cell.srtp, ...(cell.speech ? ['--speech', speech] : []), ...more],
  { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, GOMAXPROCS: '1', SIPBRIDGE_ADMIN_TOKEN: token } }));

/** What it said at its end. */
async function said(load) {
  await load.over;
  const line = load.output.split('\n').find((l) => l.startsWith('{'));
  if (!line) throw new Error(`the generator died: ${load.output.slice(0, 2000)}`);
  return JSON.parse(line);
}

/** One turn of one cell with one engine. */
async function run(name, cell) {
  const engine = await engines[name](cell);
  execFileSync('taskset', ['-a', '-cp', '0', String(engine.pid)]);
  const idle = rss(engine.pid);
  const load = generate(cell, '--rate', String(cell.calls > 200 ? 10 : 20), '--talk', `${seconds + 3}s`, ...engine.args);
  await until(() => load.output.includes('up'), () => load.output, 120_000);
  await sleep(2000);
  const from = cpu(engine.pid), generator = cpu(load.pid), at = Date.now();
  await sleep(seconds * 1000);
  const span = (Date.now() - at) / 1000;
  const spent = cpu(engine.pid) - from, busy = (cpu(load.pid) - generator) / span / 1000;
  const memory = rss(engine.pid) - idle;
  const goroutines = await engine.goroutines();
  const result = await said(load);
  await engine.stop();
  const up = result.Calls - result.Failed - result.Refused;
  if (up < cell.calls) console.log(`${name}, ${cell.name}: ${result.Refused} calls refused, ${result.Failed} failed: ${load.output.slice(0, 300)}`);
  return { up, cpu: spent / span / up, memory, goroutines: goroutines / up, busy, ...result };
}

/** More calls than a core holds. */
async function flood() {
  const cell = { codec: 'opus', srtp: 'gcm', speech: true, calls: 1200, rate: 20 };
  const engine = await engines.sipbridge(cell);
  execFileSync('taskset', ['-a', '-cp', '0', String(engine.pid)]);
  const load = generate(cell, '--rate', String(cell.rate), '--talk', `${seconds}s`);
  await until(() => load.output.includes('up'), () => load.output, 120000);
  const from = cpu(load.pid), at = Date.now();
  await sleep((seconds - 2) * 1000);
  const busy = (cpu(load.pid) - from) / (Date.now() - at);
  const r = { ...cell, busy, ...await said(load) };
  await engine.stop();
  console.log(`overload: ${JSON.stringify(r)}`);
  return r;
}

// ---- the cells ----

const cells = [
  { key: 'gcm200', name: 'PCMU untouched, AES-GCM', codec: 'PCMU', srtp: 'gcm', calls: 200, turns, peer: true },
  { key: 'cm200', name: 'PCMU untouched, AES-CM', codec: 'PCMU', srtp: 'cm', calls: 200, turns, peer: true },
  { key: 'gcm50', name: 'PCMU untouched, AES-GCM', codec: 'PCMU', srtp: 'gcm', calls: 50, turns: 1, peer: true },
  { key: 'gcm500', name: 'PCMU untouched, AES-GCM', codec: 'PCMU', srtp: 'gcm', calls: 500, turns: 1, peer: true },
  { key: 'gcm800', name: 'PCMU untouched, AES-GCM', codec: 'PCMU', srtp: 'gcm', calls: 800, turns: 1, peer: true },
  { key: 'opus20', name: 'PCMU <-> Opus, speech', codec: 'opus', srtp: 'gcm', speech: true, calls: 20, turns, peer: true },
  { key: 'quiet20', name: 'PCMU <-> Opus, silence', codec: 'opus', srtp: 'gcm', calls: 20, turns: 1, peer: true },
  { key: 'opus100', name: 'PCMU <-> Opus, speech', codec: 'opus', srtp: 'gcm', speech: true, calls: 100, turns: 1, peer: false },
];

// BENCH_ONLY names cells to look at alone; then nothing is written.
const only = process.env.BENCH_ONLY?.split(',');
const rows = [];
let overload;
makeHospital();
try {
  if (!only || only.includes('flood')) overload = await flood();
  for (const cell of cells.filter((c) => !only || only.includes(c.key))) {
    const seen = { sipbridge: [], rtpengine: [] };
    for (let turn = 0; turn < cell.turns; turn++) {
      for (const name of cell.peer ? ['sipbridge', 'rtpengine'] : ['sipbridge']) {
        const r = await run(name, cell);
        seen[name].push(r);
        console.log(`${cell.name}, ${cell.calls} calls, turn ${turn + 1}: ${name} ${r.cpu.toFixed(2)} ms a call-second, ${(r.memory / r.up).toFixed(0)} KiB a call, `
          + `latency ${r.Latency50.toFixed(2)} / ${r.Latency99.toFixed(2)} ms (rising ${r.Rising50.toFixed(2)} / ${r.Rising99.toFixed(2)}), lost ${(100 * r.LostToWeb).toFixed(2)} %, generator ${(100 * r.busy).toFixed(0)} % busy`);
      }
    }
    for (const [name, list] of Object.entries(seen)) {
      if (!list.length) continue;
      const row = { ...cell, engine: name };
      for (const k of ['up', 'cpu', 'memory', 'goroutines', 'busy', 'MedianMS', 'P95MS', 'Sound50', 'Sound95', 'Latency50', 'Latency99', 'Rising50', 'Rising99', 'LostToWeb']) row[k] = median(list.map((r) => r[k]));
      row.ratios = name === 'sipbridge' && cell.peer ? list.map((r, i) => r.cpu / seen.rtpengine[i].cpu) : [];
      rows.push(row);
    }
  }
} finally {
  await endAll();
  dropHospital();
}
if (only) process.exit();

const of = (key, engine = 'sipbridge') => rows.find((r) => r.key === key && r.engine === engine);
const slope = (engine) => (of('gcm200', engine).memory - of('gcm50', engine).memory) / 150;
const result = {
  passthrough_gcm_cpu_vs_rtpengine: median(of('gcm200').ratios),
  passthrough_cm_cpu_vs_rtpengine: median(of('cm200').ratios),
  opus_cpu_vs_rtpengine: median(of('opus20').ratios),
  passthrough_calls_per_core: 1000 / of('gcm500').cpu,
  opus_calls_per_core: 1000 / of('opus100').cpu,
  memory_kib_per_call: slope('sipbridge'),
  memory_kib_per_call_rtpengine: slope('rtpengine'),
  invite_to_200_ms_median: of('gcm200').MedianMS,
  invite_to_200_ms_p95: of('gcm200').P95MS,
  answer_to_sound_ms_median: of('gcm200').Sound50,
  answer_to_sound_ms_p95: of('gcm200').Sound95,
  overload_kept: overload.Calls - overload.Refused - overload.Failed,
  overload_lost: overload.LostToWeb,
  overload_refusal_ms_p99: overload.Refused99,
  added_latency_ms_median: of('gcm200').Latency50,
  added_latency_ms_p99: of('gcm200').Latency99,
  growth_500_vs_200: of('gcm500').cpu / of('gcm200').cpu,
};
const root = new URL('../../', import.meta.url);
writeFileSync(new URL('bench.json', root), `${JSON.stringify(result, null, 1)}\n`);
writeFileSync(new URL('docs/performance.svg', root), picture(rows));
writeFileSync(new URL('docs/performance.md', root), document(rows, result, overload, { turns, seconds, processor: cpus()[0].model, cores: cpus().length }));
const page = new URL('README.md', root);
writeFileSync(page, readme(readFileSync(page, 'utf8'), rows, result));
console.log(JSON.stringify(result, null, 1));
