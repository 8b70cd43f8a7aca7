// The hospital's network: a namespace with its own link to the gateway. The
// gateway is 10.77.0.1; Kamailio is 10.77.0.2; baresip is 10.77.0.3; SIPp, a ward
// whose telephones send digits by INFO, is 10.77.0.4; 10.77.0.5 to .8 are for telephones of trunks that a test makes.
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';

export const gatewayAddress = '10.77.0.1';
export const ns = `sbhosp${process.pid}`;
const link = `sbh${process.pid % 100000}`;

const ip = (...args) => execFileSync('ip', args, { stdio: 'pipe' });

/** Takes down what a run that was killed left standing: its address is ours to use. */
export function sweep() {
  for (const [name, pid] of ip('netns', 'list').toString().matchAll(/^sb[a-z]+(\d+)/gm)) {
    try { process.kill(Number(pid), 0); continue; } catch { /* that run is over */ }
    for (const left of ip('netns', 'pids', name).toString().split('\n').filter(Boolean)) {
      try { process.kill(Number(left), 'SIGKILL'); } catch { /* it is over */ }
    }
    ip('netns', 'del', name);
  }
  // A namespace lives on while connections in it wait for their end, and so do the links into it.
  for (const [, name, pid] of ip('-o', 'link', 'show').toString().matchAll(/: (sb[a-z]+(\d+))@/g)) {
    try { process.kill(Number(pid), 0); } catch { ip('link', 'del', name); }
  }
}

export function makeHospital() {
  sweep();
  ip('netns', 'add', ns);
  ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'hosp0', 'netns', ns);
  ip('addr', 'add', '10.77.0.1/24', 'dev', link);
  ip('link', 'set', link, 'up');
  ip('-n', ns, 'addr', 'add', '10.77.0.2/24', 'dev', 'hosp0');
  ip('-n', ns, 'addr', 'add', '10.77.0.3/24', 'dev', 'hosp0');
  for (const n of [4, 5, 6, 7, 8]) ip('-n', ns, 'addr', 'add', `10.77.0.${n}/24`, 'dev', 'hosp0');
  ip('-n', ns, 'link', 'set', 'hosp0', 'up');
  ip('-n', ns, 'link', 'set', 'lo', 'up');
}

/** Gives gateway and hospital IPv6, too: fd77::1 and fd77::2. */
export function speakSix() {
  ip('addr', 'add', 'fd77::1/64', 'dev', link, 'nodad');
  ip('-n', ns, 'addr', 'add', 'fd77::2/64', 'dev', 'hosp0', 'nodad');
}

export function dropHospital() {
  ip('netns', 'del', ns);
}

/** Starts a program inside the hospital. */
export function inHospital(command, args, options = {}) {
  return track(spawn('ip', ['netns', 'exec', ns, command, ...args], { stdio: ['ignore', 'pipe', 'pipe'], detached: true, ...options }), true);
}

/** Whether a child, or what it started, has that port in the hospital. */
export function listensInHospital(child, port, at) {
  const line = execFileSync('ip', ['netns', 'exec', ns, 'ss', '-Hltunp', `sport = :${port} and src ${at.includes(':') ? `[${at}]` : at}`]).toString();
  const pid = Number(line.match(/pid=(\d+)/)?.[1]);
  return pid === child.pid;
}

/** Starts the hospital's PBX: Kamailio on 10.77.0.2; with TLS if it is given a folder with pbx.pem, pbx.key and ca.pem. */
export async function startPBX(certificates) {
  let file = new URL('../kamailio/kamailio.cfg', import.meta.url).pathname;
  if (certificates) {
    const text = readFileSync(file, 'utf8').replaceAll('CERTDIR', certificates);
    writeFileSync(file = join(certificates, 'kamailio.cfg'), text);
  }
  const kamailio = inHospital('kamailio', ['-f', file, '-DD', '-E', '-Y', '/tmp', ...(certificates ? ['-A', 'WITH_TLS'] : [])]);
  await until(() => /udp:10.77.0.2/.test(kamailio.output) || kamailio.output.includes('Listening on'), () => `kamailio: ${kamailio.output}`);
  return kamailio;
}

const running = new Set();

/** Remembers a child so that it is ended with the tests. */
export function track(child, group = false) {
  child.output = '';
  child.end = (signal = 'SIGKILL') => { try { process.kill(group ? -child.pid : child.pid, signal); } catch { /* it is over */ } };
  child.stdout?.on('data', (d) => { child.output += d; });
  child.stderr?.on('data', (d) => { child.output += d; });
  running.add(child);
  child.over = new Promise((resolve) => child.on('exit', (code, signal) => { running.delete(child); resolve(code ?? signal); }));
  return child;
}

export async function endAll() {
  for (const c of running) c.end();
  await Promise.all([...running].map((c) => c.over));
}

/** Waits until f returns something true. */
export async function until(f, what, ms = 10000) {
  const end = Date.now() + ms;
  for (;;) {
    const v = await f();
    if (v) return v;
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain: ${typeof what === 'function' ? await what() : what}`);
    await new Promise((r) => setTimeout(r, 20));
  }
}

export const sleep = (ms) => new Promise((r) => setTimeout(r, ms));

/** A line to a TCP port that can be cut and mended. */
export class Line {
  constructor(to) {
    this.sockets = new Set();
    this.up = true;
    this.server = net.createServer((a) => {
      if (!this.up) { a.destroy(); return; }
      const b = net.connect(to, '127.0.0.1');
      for (const [x, y] of [[a, b], [b, a]]) {
        this.sockets.add(x);
        x.on('close', () => { this.sockets.delete(x); y.destroy(); });
        x.on('error', () => {});
        x.pipe(y);
      }
    });
  }

  async listen() {
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    return this.server.address().port;
  }

  cut() {
    this.up = false;
    for (const s of this.sockets) s.destroy();
  }

  mend() {
    this.up = true;
  }

  close() {
    this.cut();
    this.server.close();
  }
}
