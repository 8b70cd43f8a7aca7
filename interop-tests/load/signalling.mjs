// What setting calls up costs: SIPp calls SIPp, through the gateway and, in turn,
// through Kamailio as a plain stateful proxy; each on the machine's first core, the two
// SIPps on the second. Writes docs/performance-signalling.md and adds to bench.json.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeHospital, dropHospital, endAll, inHospital, sleep, until } from '../lib/net.mjs';
import { Gateway, binary, config } from '../lib/gateway.mjs';
import { answering } from '../lib/sipp.mjs';

const rate = Number(process.env.BENCH_CPS ?? 300);
const seconds = Number(process.env.BENCH_SECONDS ?? 80);
const turns = Number(process.env.BENCH_TURNS ?? 2);
const calls = rate * seconds;

const cpu = (pids) => pids.reduce((sum, pid) => sum + readdirSync(`/proc/${pid}/task`).reduce((s, t) => {
  try { return s + Number(readFileSync(`/proc/${pid}/task/${t}/schedstat`, 'utf8').split(' ')[0]); } catch { return s; }
}, 0), 0) / 1e6;
const rss = (pids) => pids.reduce((s, pid) => s + Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]), 0) / 1024;
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];

const sdp = `v=0
o=ward 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 8 0 101
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16`;
const dialog = (method, to, more = '') => `Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
${more}From: <sip:300@[local_ip]:[local_port]>;tag=[pid]w[call_number]
To: ${to}
Call-ID: [call_id]
CSeq: ${method === 'BYE' ? 2 : 1} ${method}
Max-Forwards: 70
Contact: <sip:300@[local_ip]:[local_port]>`;
const uac = `<?xml version="1.0"?><scenario name="calls">
<send retrans="500" start_rtd="1"><![CDATA[
INVITE sip:3000@[remote_ip]:[remote_port] SIP/2.0
${dialog('INVITE', '<sip:3000@[remote_ip]:[remote_port]>')}
Content-Type: application/sdp
Content-Length: [len]

${sdp}
]]></send>
<recv response="100" optional="true"/><recv response="180" rtd="1"/><recv response="200" rrs="true"/>
<send><![CDATA[
ACK [next_url] SIP/2.0
${dialog('ACK', '<sip:3000@[remote_ip]:[remote_port]>[peer_tag_param]', '[routes]\n')}
Content-Length: 0

]]></send>
<pause milliseconds="100"/>
<send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
${dialog('BYE', '<sip:3000@[remote_ip]:[remote_port]>[peer_tag_param]', '[routes]\n')}
Content-Length: 0

]]></send>
<recv response="200"/></scenario>`;
const answer = (status, body) => `<send${status === 200 && body ? ' retrans="500"' : ''}><![CDATA[
SIP/2.0 ${status} Whatever
[last_Via:]
[last_From:]
[last_To:]${body || status === 180 ? ';tag=[pid]u[call_number]' : ''}
[last_Call-ID:]
[last_CSeq:]
[last_Record-Route:]
Contact: <sip:300@[local_ip]:[local_port]>
${body ? `Content-Type: application/sdp\n` : ''}Content-Length: [len]

${body ?? ''}
]]></send>`;
const uas = `<?xml version="1.0"?><scenario name="called"><recv request="INVITE" rrs="true"/>${answer(180)}<pause milliseconds="50"/>${answer(200, sdp)}<recv request="ACK"/><recv request="BYE"/>${answer(200)}</scenario>`;

const engines = {
  async sipbridge() {
    const text = config({ routes: '  - {name: to the ward, to: [trunk:ward]}' }).replace('rtp_ports: 20000-20999', 'rtp_ports: 20000-59999');
    const gateway = await new Gateway(text).start({ GOMAXPROCS: '1' });
    return { pids: [gateway.child.pid], target: '10.77.0.1:5060', at: '10.77.0.2', stop: () => gateway.stop(), holds: () => gateway.holds(), gateway };
  },
  async kamailio() {
    const child = inHospital('kamailio', ['-f', new URL('../kamailio/kamailio.cfg', import.meta.url).pathname, '-DD', '-E', '-Y', '/tmp', '-M', '16', '-m', '256']);
    await until(() => child.output.includes('Listening on'), () => child.output);
    await sleep(1000);
    const pids = [child.pid, ...execFileSync('pgrep', ['-P', String(child.pid)]).toString().trim().split('\n').map(Number)];
    return { pids, target: '10.77.0.2:5060', at: '10.77.0.5', stop: () => { child.end('SIGTERM'); return child.over; } };
  },
};

/** Where a profile's processor time went: percent by package, most first. */
function packages(file) {
  const shares = {};
  for (const line of execFileSync('go', ['tool', 'pprof', '-top', '-nodecount=100000', '-nodefraction=0', binary, file], { stdio: ['ignore', 'pipe', 'ignore'] }).toString().split('\n')) {
    const m = line.match(/^\s*\S+\s+([\d.]+)%\s+\S+\s+\S+\s+\S+\s+(\S+)/);
    if (!m) continue;
    const name = /^(runtime\.)?(gcDrain|scan|greyobject|markBits|gcw|sweep|bgsweep|findObject|spanOf|\(\*(gc|mspan|sweep))/.test(m[2]) ? 'the garbage collector'
      : /[Ss]yscall/.test(m[2]) ? 'the kernel' : m[2].match(/^((?:[^/]*\/)*[^.(/]*)/)[1];
    const group = /^(runtime|internal\/|sync)/.test(name) ? 'Go\'s runtime: memory, scheduling, maps, locks' : /nats/.test(name) ? 'NATS, which keeps what a crash must not lose' : /sipgo/.test(name) ? 'sipgo: parsing, writing, transactions'
      : /sipbridge/.test(name) ? 'sipbridge' : /^(the )/.test(name) ? name : 'the rest';
    shares[group] = (shares[group] ?? 0) + Number(m[1]);
  }
  return Object.entries(shares).sort((a, b) => b[1] - a[1]);
}

async function run(name, profiled) {
  const engine = await engines[name]();
  for (const pid of engine.pids) execFileSync('taskset', ['-a', '-cp', '0', String(pid)]);
  const on1 = (pid) => execFileSync('taskset', ['-a', '-cp', '1', String(pid)]);
  const ward = await answering(uas, { calls, seconds: seconds + 60, extra: ['-l', '10000'] });
  on1(ward.pid);
  const begin = engine.holds && await engine.holds();
  const dir = mkdtempSync(join(tmpdir(), 'sipbridge-signalling-'));
  writeFileSync(join(dir, 'uac.xml'), uac);
  const pbx = inHospital('taskset', ['-c', '1', 'sipp', '-sf', 'uac.xml', '-i', engine.at, '-p', '5066', '-mi', engine.at, '-m', String(calls), '-r', String(rate), '-l', '5000', '-nostdin',
    '-timeout', `${seconds + 60}s`, '-timeout_error', '-trace_rtt', '-rtt_freq', '1', '-trace_stat', '-stf', 'stat.csv', '-fd', '5', engine.target], { cwd: dir });
  await sleep(5000);
  const from = cpu(engine.pids), at = Date.now(), memory = [rss(engine.pids)];
  let profile;
  if (profiled && engine.gateway) {
    profile = join(dir, 'profile');
    await engine.gateway.profile(10, profile);
  }
  while (Date.now() - at < (seconds - 10) * 1000) {
    await sleep(1000);
    memory.push(rss(engine.pids));
  }
  const live = await engine.gateway?.metric('go_gc_heap_live_bytes');
  const spent = cpu(engine.pids) - from, span = (Date.now() - at) / 1000;
  const code = await pbx.over;
  await sleep(1000);
  ward.end(); // it waits for calls that were refused
  await ward.over;
  const stat = readFileSync(join(dir, 'stat.csv'), 'utf8').trim().split('\n').map((l) => l.split(';'));
  const last = Object.fromEntries(stat[0].map((k, i) => [k, stat.at(-1)[i]]));
  const rtt = readdirSync(dir).filter((f) => f.endsWith('_rtt.csv')).flatMap((f) => readFileSync(join(dir, f), 'utf8').trim().split('\n').slice(1).map((l) => Number(l.split(';')[1]))).sort((a, b) => a - b);
  let left;
  if (begin) {
    await sleep(34_000); // 64*T1 and a little
    left = await engine.holds();
  }
  await engine.stop();
  const r = { name, code, ok: Number(last['SuccessfulCall(C)']), failed: Number(last['FailedCall(C)']), again: Number(last['Retransmissions(C)']), cpu: spent / span / rate,
    ring50: quantile(rtt, 0.5), ring95: quantile(rtt, 0.95), profile: profile && packages(profile), first: memory[0], most: Math.max(...memory), end: memory.at(-1), live, begin, left };
  console.log(`${name}: ${r.ok} calls, ${r.failed} failed, ${r.again} messages sent again, ${r.cpu.toFixed(2)} ms a call, INVITE to 180 ${r.ring50.toFixed(1)} / ${r.ring95.toFixed(1)} ms, ${r.first.toFixed(0)} to ${r.end.toFixed(0)} MiB`
    + (left ? `; left: ${JSON.stringify(left)}, before ${JSON.stringify(begin)}` : ''));
  return r;
}

const seen = { sipbridge: [], kamailio: [] };
makeHospital();
try {
  for (let turn = 0; turn < turns; turn++) for (const name of Object.keys(seen)) seen[name].push(await run(name, turn === turns - 1));
} finally {
  await endAll();
  dropHospital();
}
if (process.env.BENCH_ONLY) process.exit(); // to look alone

const of = (name, key) => median(seen[name].map((r) => r[key]));
const ratios = seen.sipbridge.map((r, i) => r.cpu / seen.kamailio[i].cpu);
const held = seen.sipbridge.at(-1);
const result = { signalling_cpu_ms_per_call: of('sipbridge', 'cpu'), signalling_cpu_vs_kamailio: median(ratios), invite_to_180_ms_p95: of('sipbridge', 'ring95'),
  signalling_calls: seen.sipbridge.reduce((s, r) => s + r.ok, 0), signalling_failed: seen.sipbridge.reduce((s, r) => s + r.failed, 0), signalling_sent_again: seen.sipbridge.reduce((s, r) => s + r.again, 0) };
const root = new URL('../../', import.meta.url);
const json = new URL('bench.json', root);
writeFileSync(json, `${JSON.stringify({ ...(existsSync(json) ? JSON.parse(readFileSync(json, 'utf8')) : {}), ...result }, null, 1)}\n`);
const line = (r) => `| ${r.name} | ${r.ok} | ${r.failed} | ${r.again} | ${r.cpu.toFixed(2)} | ${r.ring50.toFixed(1)} / ${r.ring95.toFixed(1)} | ${r.first.toFixed(0)} / ${r.most.toFixed(0)} / ${r.end.toFixed(0)} |`;
const goal = (what, aim, got, reached) => `| ${what} | ${aim} | ${reached ? got : `**${got}**`} | ${reached ? 'reached' : 'missed'} |`;
writeFileSync(new URL('docs/performance-signalling.md', root), `# Performance of signalling

Written by \`make bench\` (\`node interop-tests/load/signalling.mjs\`); do not edit. ${cpus()[0].model}, ${cpus().length} cores, a virtual machine: take ratios,
not values.

SIPp calls SIPp ${rate} times a second for ${seconds} s, over UDP: INVITE with an offer, 180, 50 ms, 200, ACK, 100 ms, BYE. Through
the gateway each call is two dialogs, a decision of the policy, two pairs of RTP ports, a record and its keeping on
disk; through Kamailio, a plain stateful proxy with two workers, it is forwarded. Each has the machine's first core in
turn, so many times as the table has rows of each; the two SIPps have the second.

| | goal | here | |
| --- | --- | --- | --- |
${[goal('calls refused or lost, messages sent again', 'none', `${result.signalling_failed}, ${result.signalling_sent_again}`, result.signalling_failed + result.signalling_sent_again === 0),
    goal("Kamailio's processor time a call", 'at most 3 times', `${result.signalling_cpu_vs_kamailio.toFixed(2)} (${ratios.map((r) => r.toFixed(2)).join(', ')})`, result.signalling_cpu_vs_kamailio <= 3),
    goal('INVITE to 180, 95 of 100', 'under 5 ms', `${result.invite_to_180_ms_p95.toFixed(1)} ms`, result.invite_to_180_ms_p95 < 5)].join('\n')}

| | calls | failed | messages sent again | CPU ms a call | INVITE to 180 median / 95th, ms | memory after 5 s / most / end, MiB |
| --- | --- | --- | --- | --- | --- | --- |
${Object.values(seen).flat().map(line).join('\n')}

Where the gateway's time went, in 10 s of its last turn. The collector goes through a live heap of ${(held.live / 1e6).toFixed(0)} MB, ${(held.live / 1e3 / rate / 32).toFixed(0)} KB for each
call of the last 32 s: so long sipgo keeps its answers to INVITE and BYE (RFC 3261 §17.2.2, RFC 6026 §7.1). While it does,
a new call waits for the one core.

| | % |
| --- | --- |
${held.profile.map(([k, v]) => `| ${k} | ${v.toFixed(0)} |`).join('\n')}

After the last turn's ${held.ok} calls, 34 s later, against before:

| | before | after |
| --- | --- | --- |
${Object.keys(held.begin).map((k) => `| ${k === 'heap' ? 'live heap, MB' : k} | ${k === 'heap' ? (held.begin[k] / 1e6).toFixed(1) : held.begin[k]} | ${k === 'heap' ? (held.left[k] / 1e6).toFixed(1) : held.left[k]} |`).join('\n')}
`);
console.log(JSON.stringify(result, null, 1));
