// The patient's home: a namespace at the far end of a line that can be made bad.
// The near end, in the gateway's own network, is 10.78.0.1; the home is 10.78.0.2.
import { spawn, execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { at, authority, certificate, trusting } from '../lib/certificates.mjs';
import { config } from '../lib/gateway.mjs';
import { sweep, track, until } from '../lib/net.mjs';
import { flags, tone } from '../lib/page.mjs';

export const nearEnd = '10.78.0.1';
export const home = `sbhome${process.pid}`, middle = `sbline${process.pid}`, near = `sbn${process.pid}`;
export const ip = (...args) => execFileSync('ip', args, { stdio: 'pipe' });
export const program = (name) => new URL(`../../bin/${name}`, import.meta.url).pathname;

/** A child that answers each line of JSON with one. */
export class Servant {
  constructor(command, args) {
    this.child = track(spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], detached: true }), true);
    this.asked = [];
    let rest = '';
    this.child.stdout.on('data', (d) => {
      const lines = (rest + d).split('\n');
      rest = lines.pop();
      for (const l of lines) this.asked.shift()?.resolve(JSON.parse(l));
    });
    this.child.over.then((code) => {
      for (const a of this.asked.splice(0)) a.reject(new Error(`${args.join(' ')} ended with ${code}: ${this.child.output}`));
    });
    this.ready = this.#answer();
  }

  #answer() {
    return new Promise((resolve, reject) => { this.asked.push({ resolve, reject }); });
  }

  ask(order) {
    const answer = this.#answer();
    this.child.stdin.write(`${JSON.stringify(order)}\n`);
    return answer;
  }
}

/** Makes the home and its line; the line's ask takes orders (lab/line/way.go). */
export async function makeHome() {
  sweep();
  ip('netns', 'add', home);
  ip('netns', 'add', middle);
  ip('link', 'add', near, 'type', 'veth', 'peer', 'name', 'a0', 'netns', middle);
  ip('-n', middle, 'link', 'add', 'b0', 'type', 'veth', 'peer', 'name', 'home0', 'netns', home);
  ip('addr', 'add', `${nearEnd}/24`, 'dev', near);
  ip('-n', home, 'addr', 'add', '10.78.0.2/24', 'dev', 'home0');
  for (const link of ['a0', 'b0']) ip('-n', middle, 'link', 'set', link, 'up');
  // An IPv6 address that comes up later is a change of network to Chromium.
  execFileSync('ip', ['netns', 'exec', home, 'sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1']);
  for (const link of ['lo', 'home0']) ip('-n', home, 'link', 'set', link, 'up');
  ip('link', 'set', near, 'up');
  const line = new Servant('ip', ['netns', 'exec', middle, program('line'), '-a', 'a0', '-b', 'b0']);
  await line.ready;
  return line;
}

export function dropHome() {
  for (const ns of [home, middle]) ip('netns', 'del', ns);
}

/** Closes the home's network: what its firewall lets out, in the words of nft; nothing: all. */
export function lets(...out) {
  const nft = (text) => execFileSync('ip', ['netns', 'exec', home, 'nft', '-f', '-'], { input: text, stdio: ['pipe', 'pipe', 'pipe'] });
  nft('table inet home {}\ndelete table inet home\n');
  if (out.length) nft(`table inet home {\nchain out {\ntype filter hook output priority 0; policy drop; oif lo accept\n${out.join('\n')}\n}\n}\n`);
}

/** The home gets another address. */
export function moves(from, to) {
  ip('-n', home, 'addr', 'del', `${from}/24`, 'dev', 'home0');
  ip('-n', home, 'addr', 'add', `${to}/24`, 'dev', 'home0');
}

/** The port of the page and of the relay, by TCP and TLS. */
export const edgePort = 18080, proxyPort = 13128;

/** The gateway's name, for whom withHosts runs. */
export const nearName = 'gateway.test';

/** Makes a command line's program know that name. */
export function withHosts(...command) {
  writeFileSync(at('hosts'), `127.0.0.1 localhost\n${nearEnd} ${nearName}\n`);
  return ['unshare', '-m', 'sh', '-c', `mount --bind ${at('hosts')} /etc/hosts; exec "$@"`, 'sh', ...command];
}

/** An HTTP proxy at the near end that leads to the gateway alone. */
export async function startProxy() {
  writeFileSync(at('tinyproxy.conf'), `Port ${proxyPort}\nListen ${nearEnd}\nTimeout 600\nAllow 10.78.0.0/24\nConnectPort ${edgePort}\n`);
  const [command, ...args] = withHosts('tinyproxy', '-d', '-c', at('tinyproxy.conf'));
  const proxy = track(spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true }), true);
  await until(() => /Listening|Accepting|listen/i.test(proxy.output), () => `tinyproxy: ${proxy.output}`);
}

/** A gateway that homes reach by HTTPS, at the near end, with a relay. */
export function closedGateway(host = nearEnd) {
  authority('ca');
  certificate('gateway', 'ca', nearEnd, nearName);
  return `${config({ routes: "  - {name: patients to the lab, when: 'call.source == \"browser\"', to: [trunk:lab]}\n  - {name: the lab to patients, to: [visit]}" })
    .replace('interfaces: {', `interfaces: {wan: {address: ${nearEnd}}, `).replace('webrtc_port: 18443', 'webrtc_port: 18443, interface: wan')
    .replace(/portal: .*/, `portal: {listen: "${nearEnd}:${edgePort}", public_url: "https://${host}:${edgePort}"}`)}
tls: {cert_file: ${at('gateway.pem')}, key_file: ${at('gateway.key')}}
turn: {udp: 13478, relay_ports: 24000-24099}`;
}

/** Where a coturn is reached, which is told by its TLS port. */
export const coturnURL = ({ port }) => `turns:${nearEnd}:${port}?transport=tcp`;

/** The setting of a gateway whose relays are these coturns. */
export const external = (...all) => `turn: {external: [${all.map((c) => `{url: "${coturnURL(c)}", secret_file: ${at('turn.secret')}}`).join(', ')}]}`;

/** Somebody else's relay at the near end, with the gateway's certificate. */
export async function startCoturn({ port, udp, ports }) {
  const secret = 'between coturn and us', [first, last] = ports.split('-');
  writeFileSync(at('turn.secret'), `${secret}\n`, { mode: 0o600 });
  const coturn = track(spawn('turnserver', ['-n', `--listening-ip=${nearEnd}`, `--relay-ip=${nearEnd}`, `--listening-port=${udp}`, `--tls-listening-port=${port}`, '--no-dtls', '--no-cli',
    `--cert=${at('gateway.pem')}`, `--pkey=${at('gateway.key')}`, '--use-auth-secret', `--static-auth-secret=${secret}`, '--realm=hospital', `--min-port=${first}`, `--max-port=${last}`,
    '--log-file=stdout', `--pidfile=${at(`turn-${port}.pid`)}`, `--userdb=${at(`turn-${port}.db`)}`], { stdio: ['ignore', 'pipe', 'pipe'] }));
  await until(() => opens(port), () => `coturn: ${coturn.output}`);
  return coturn;
}

/** Whether anything listens on a TCP port of the near end. */
const opens = (port) => new Promise((resolve) => {
  const s = connect(port, nearEnd, () => { s.destroy(); resolve(true); });
  s.on('error', () => resolve(false));
});

/** A browser in the home that trusts that gateway and whose microphone plays a tone. */
export const launchAtHome = (...more) => chromium.launch({ executablePath: inHome('/usr/bin/chromium'), env: { ...process.env, HOME: trusting('ca') },
  args: [...flags, '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', `--use-file-for-fake-audio-capture=${tone(48000)}`, ...more] });

/** A program that runs another one in the home. */
export function inHome(command) {
  const file = join(mkdtempSync(join(tmpdir(), 'sipbridge-home-')), 'run');
  writeFileSync(file, `#!/bin/sh\nexec ip netns exec ${home} ${command} "$@"\n`, { mode: 0o755 });
  return file;
}

/** A telephone's sound in the hospital, at 10.77.0.3 (lab/phone/main.go). */
export async function telephone(hospital, port, ...more) {
  const phone = new Servant('ip', ['netns', 'exec', hospital, program('phone'), '-listen', `10.77.0.3:${port}`, ...more]);
  await phone.ready;
  return phone;
}
