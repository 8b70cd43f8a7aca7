// The gateway under test: the real binary with a configuration of the test's.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync, readFileSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { track, until, gatewayAddress } from './net.mjs';

export const binary = new URL('../../bin/sipbridge', import.meta.url).pathname;
export const token = 'interop-tests-admin-token';

/** Runs a command to its end. */
export function run(...args) {
  const r = spawnSync(binary, args, { encoding: 'utf8', env: { ...process.env, SIPBRIDGE_ADMIN_TOKEN: token }, timeout: 20000 });
  return { code: r.status, out: r.stdout, err: r.stderr };
}

export class Gateway {
  /** inside: the network namespace that it runs in; admin: where its API is. */
  constructor(config, { inside, admin = '127.0.0.1:19090' } = {}) {
    Object.assign(this, { inside, admin });
    this.dir = mkdtempSync(join(tmpdir(), 'sipbridge-interop-'));
    this.file = join(this.dir, 'sipbridge.yaml');
    writeFileSync(this.file, `${config}\nstate: ${this.dir}/state\n`);
  }

  /** Starts it, and waits until it says that it is ready, or until ready() is true. */
  async start(env = {}, ready = () => fetch(`http://${this.admin}/readyz`).then((r) => r.ok).catch(() => false)) {
    const command = [...(this.inside ? ['ip', 'netns', 'exec', this.inside] : []), binary, 'serve', '--config', this.file, '--log', process.env.SIPBRIDGE_LOG ?? 'info'];
    this.child = track(spawn(command[0], command.slice(1), {
      stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, SIPBRIDGE_ADMIN_TOKEN: token, ...env } }));
    let code = null;
    this.child.over.then((c) => { code = c; });
    await until(async () => {
      if (code !== null) throw new Error(`the gateway ended with ${code}: ${this.child.output}`);
      return ready();
    }, () => `the gateway to be ready: ${this.child.output}`);
    return this;
  }

  async api(method, path, body) {
    const r = await fetch(`http://${this.admin}${path}`, { method, headers: { authorization: `Bearer ${token}` }, body: body && JSON.stringify(body) });
    const text = await r.text();
    if (!r.ok) throw new Error(`${method} ${path}: ${r.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  invite(to, name = 'Maria') {
    return this.api('POST', '/api/v1/invites', { to, name, valid: '1h' });
  }

  calls() {
    return this.api('GET', '/api/v1/calls');
  }

  async metric(name) {
    const text = await (await fetch(`http://${this.admin}/metrics`)).text();
    const line = text.split('\n').find((l) => l.startsWith(`${name} `) || l.startsWith(`${name}{`));
    return line ? Number(line.split(' ').pop()) : 0;
  }

  /** What the gateway holds, after its collector has run: twice, for pools outlive one run. */
  async holds() {
    for (let i = 0; i < 2; i++) {
      const r = await fetch(`http://${this.admin}/debug/pprof/heap?gc=1`, { headers: { authorization: `Bearer ${token}` } });
      if (!r.ok) throw new Error(`the collector was not run: ${r.status}`);
      await r.arrayBuffer();
    }
    return {
      goroutines: await this.metric('go_goroutines'),
      fds: await this.metric('process_open_fds'),
      ports: await this.metric('sipbridge_rtp_ports_taken'),
      dialogs: await this.metric('sipbridge_sip_dialogs'),
      heap: await this.metric('go_gc_heap_live_bytes'),
    };
  }

  /** Where its processor time goes, for so many seconds: a profile for the compiler. */
  async profile(seconds, file) {
    const r = await fetch(`http://${this.admin}/debug/pprof/profile?seconds=${seconds}`, { headers: { authorization: `Bearer ${token}` } });
    if (!r.ok) throw new Error(`no profile: ${r.status}`);
    writeFileSync(file, Buffer.from(await r.arrayBuffer()));
  }

  records() {
    const f = `${this.dir}/state/calls.jsonl`;
    return existsSync(f) ? readFileSync(f, 'utf8').trim().split('\n').filter(Boolean).map((l) => JSON.parse(l)) : [];
  }

  async stop(signal = 'SIGTERM') {
    this.child.kill(signal);
    return this.child.over;
  }
}

/** A configuration with the hospital's PBX as its trunk. */
export function config({ routes, trunks = '', pbx = 'dtmf: rfc4733', drain = '0s', sip = '' }) {
  return `site: lisbon
drain: ${drain}
interfaces: {pbx: {address: ${gatewayAddress}}}
sip:
  listen: ["udp://${gatewayAddress}:5060", "tcp://${gatewayAddress}:5060", "udp://127.0.0.1:15060"]
${sip}
media: {rtp_ports: 20000-20999, webrtc_port: 18443}
portal: {listen: "127.0.0.1:18080", public_url: "http://127.0.0.1:18080"}
admin: {listen: "127.0.0.1:19090"}
trunks:
  pbx: {address: "sip:10.77.0.2:5060", accept_from: [10.77.0.0/24], interface: pbx, options_every: 0s, ${pbx}}
  ward: {address: "sip:10.77.0.4:5060", interface: pbx, options_every: 0s, dtmf: info}
  lab: {address: "sip:127.0.0.1:15099", options_every: 0s}
${trunks}
routes:
${routes}
`;
}
