// Two halves and what lies between them, each in a network namespace of its own:
//
//   hospital (engine, 10.20.0.2) - its firewall - line - internet (portal, 203.0.113.1) - line - router - home (browser, 10.78.0.2)
//
// The engine has another leg, towards telephones: 10.77.0.1. They are the test's own, at 10.77.0.9.
import { spawn, spawnSync, execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { at, authority, certificate } from '../lib/certificates.mjs';
import { Gateway, binary } from '../lib/gateway.mjs';
import { sweep, track, until } from '../lib/net.mjs';
import { Raw } from '../lib/raw.mjs';
import { home, ip, program, Servant } from './lab.mjs';

const named = (what) => `sb${what}${process.pid}`;
export const portalAddress = '203.0.113.1', hospitalAddress = '203.0.113.10';
const engineSpace = named('eng'), fire = named('fire'), router = named('gate'), internet = named('inet'), lines = { fire: named('linea'), router: named('lineb') };
const secondSpace = named('two');
const lan = `sbl${process.pid % 100000}`, secondLan = `sbm${process.pid % 100000}`;
const phones = '10.77.0.9', engineAddress = '10.77.0.1';

/** Runs a program in a namespace; hosts: what it takes /etc/hosts for. */
function inside(space, command, args, hosts) {
  const run = ['ip', 'netns', 'exec', space, command, ...args];
  const all = hosts ? ['unshare', '-m', 'sh', '-c', `mount --bind ${hosts} /etc/hosts; exec "$@"`, 'sh', ...run] : run;
  return track(spawn(all[0], all.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], detached: true }), true);
}

/** A link between two namespaces. */
function link(a, nameA, b, nameB) {
  ip('-n', a, 'link', 'add', nameA, 'type', 'veth', 'peer', 'name', nameB, 'netns', b);
  for (const [ns, name] of [[a, nameA], [b, nameB]]) ip('-n', ns, 'link', 'set', name, 'up');
}

/** A door to the internet, with a line that can be made bad, and what stands behind it. */
async function door(name, behind, inner, outer, address) {
  const ns = { fire, router }[name], line = lines[name];
  link(behind, 'up0', ns, 'in0');
  link(ns, 'out0', line, 'a0');
  link(internet, `${name}0`, line, 'b0');
  ip('-n', internet, 'link', 'set', `${name}0`, 'master', 'br0');
  ip('-n', behind, 'addr', 'add', `${address}/24`, 'dev', 'up0');
  ip('-n', ns, 'addr', 'add', `${inner}/24`, 'dev', 'in0');
  ip('-n', ns, 'addr', 'add', `${outer}/24`, 'dev', 'out0');
  ip('-n', behind, 'route', 'add', 'default', 'via', inner);
  execFileSync('ip', ['netns', 'exec', ns, 'sysctl', '-qw', 'net.ipv4.ip_forward=1']);
  const servant = new Servant('ip', ['netns', 'exec', line, program('line'), '-a', 'a0', '-b', 'b0']);
  await servant.ready;
  return servant;
}

/** How a firewall or a router lets those behind it out; nothing comes in unasked. */
export const grades = {
  cone: { nat: 'masquerade', out: ['accept'] },
  symmetric: { nat: 'masquerade fully-random', out: ['accept'] },
  'no UDP': { nat: 'masquerade fully-random', out: ['meta l4proto tcp accept'] },
  proxy: { nat: 'masquerade', out: [], proxy: true }, // nothing is let out; the proxy stands on it
  'UDP to the relay alone': { nat: 'masquerade', never: '@ih,48,32 0x2112a442 drop', out: ['udp dport 3478 accept', 'tcp dport 443 accept'] },
  'one to one': { nat: 'masquerade', out: ['accept'], lets: '10.20.0.2' }, // all that comes to its address goes to that one behind it
};

function grade(ns, { nat, out, lets, never }) {
  const rules = out.map((r) => `iifname "in0" ${r}`).join('\n');
  execFileSync('ip', ['netns', 'exec', ns, 'nft', '-f', '-'], { stdio: ['pipe', 'pipe', 'pipe'], input: `table inet door {}
delete table inet door
table inet door {
chain nat {
type nat hook postrouting priority 100
oifname "out0" ${nat}
}
${lets ? `chain in {
type nat hook prerouting priority -100
iifname "out0" dnat ip to ${lets}
}
` : ''}chain input {
type filter hook input priority 0
ct state established,related accept
iifname "out0" drop
}
chain forward {
type filter hook forward priority 0; policy drop
${never ?? ''}
ct state established,related accept
${rules}
${lets ? `iifname "out0" ip daddr ${lets} accept` : ''}
}
}
` });
}

/** Who calls whom: the telephones at an address, and patients. */
const calling = (phones) => `trunks:
  lab: {address: "sip:${phones}:15099", interface: pbx, options_every: 0s}
routes:
  - {name: patients to the lab, when: 'call.source == "browser"', to: ["trunk:lab"]}
  - {name: the lab to patients, to: [visit]}`;

/** An engine between telephones and the internet. */
const engine = (site, key, bus, space, { inner, outer, phones, portal = portalAddress }) => new Gateway(`site: ${site}
role: engine
bus: {${bus}, credentials_file: ${at(key)}, ca_file: ${at('ca.pem')}}
interfaces: {pbx: {address: ${inner}}, up: {address: ${outer}}}
sip: {listen: ["udp://${inner}:5060"]}
media: {rtp_ports: 20000-20999, webrtc_port: 8443, interface: up}
portal: {public_url: "https://${portal}"}
admin: {listen: "${inner}:19090"}
${calling(phones)}`, { inside: space, admin: `${inner}:19090` });

/** The test's telephones get a network of their own with an engine. */
function lanOf(space, name, phones, inner) {
  ip('link', 'add', name, 'type', 'veth', 'peer', 'name', 'lan0', 'netns', space);
  ip('addr', 'add', `${phones}/24`, 'dev', name);
  ip('link', 'set', name, 'up');
  ip('-n', space, 'addr', 'add', `${inner}/24`, 'dev', 'lan0');
  ip('-n', space, 'link', 'set', 'lan0', 'up');
}

function space(ns) {
  ip('netns', 'add', ns);
  // Without: a browser notices its addresses come one by one, and gives up what it is loading.
  execFileSync('ip', ['netns', 'exec', ns, 'sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1']);
  ip('-n', ns, 'link', 'set', 'lo', 'up');
}

export class World {
  /** Builds it all, with lines that hold each packet for so many ms. */
  static async make(delay = 0) {
    const w = new World();
    sweep();
    for (const ns of [internet, fire, router, engineSpace, home, lines.fire, lines.router]) space(ns);
    ip('-n', internet, 'link', 'add', 'br0', 'type', 'bridge');
    ip('-n', internet, 'link', 'set', 'br0', 'up');
    ip('-n', internet, 'addr', 'add', `${portalAddress}/24`, 'dev', 'br0');
    w.hospitalLine = await door('fire', engineSpace, '10.20.0.1', hospitalAddress, '10.20.0.2');
    w.homeLine = await door('router', home, '10.78.0.1', '203.0.113.20', '10.78.0.2');
    for (const l of [w.hospitalLine, w.homeLine]) await l.ask({ Delay: delay, All: true });
    lanOf(engineSpace, lan, phones, engineAddress);
    authority('ca');
    certificate('portal', 'ca', portalAddress, 'portal.test');
    writeFileSync(at('hosts'), `127.0.0.1 localhost\n${portalAddress} portal.test\n`);
    w.key = execFileSync(binary, ['key', at('engine.key')]).toString().trim();
    w.otherKey = execFileSync(binary, ['key', at('other.key')]).toString().trim();
    w.proxies = {};
    await w.proxy('fire');
    await w.proxy('router');
    return w;
  }

  drop() {
    for (const name of [lan, ...(this.second ? [secondLan] : [])]) ip('link', 'del', name);
    for (const ns of [...(this.second ? [secondSpace] : []), engineSpace, fire, router, internet, home, lines.fire, lines.router]) ip('netns', 'del', ns);
  }

  /** An HTTP proxy, on the hospital's firewall or the patient's router, that knows the portal's name and leads to its port alone. */
  async proxy(door) {
    const [ns, address, more] = { fire: [fire, '10.20.0.1', 'BasicAuth ward s3cret'], router: [router, '10.78.0.1', ''] }[door];
    writeFileSync(at(`proxy-${door}.conf`), `Port 3128\nListen ${address}\nTimeout 600\nAllow 10.0.0.0/8\nConnectPort 443\n${more}\n`);
    const proxy = inside(ns, 'tinyproxy', ['-d', '-c', at(`proxy-${door}.conf`)], at('hosts'));
    this.proxies[door] = proxy;
    await until(() => /Listening|Accepting|listen/i.test(proxy.output), () => `tinyproxy: ${proxy.output}`);
  }

  /** The portal, on the internet. */
  startPortal() { return this.#portal(internet, portalAddress, portalAddress, 'portal'); }

  /** The portal, behind a firewall that gives it an address of its own. */
  startPortalBehindNAT() {
    grade(fire, grades['one to one']);
    certificate('hospital', 'ca', hospitalAddress);
    return this.#portal(engineSpace, '10.20.0.2', hospitalAddress, 'hospital');
  }

  async #portal(inside, address, seen, files) {
    this.portal = new Gateway(`role: portal
interfaces: {wan: {address: ${address}${seen === address ? '' : `, public: ${seen}`}}}
media: {interface: wan}
portal: {listen: "${address}:443", public_url: "https://${seen}"}
tls: {cert_file: ${at(`${files}.pem`)}, key_file: ${at(`${files}.key`)}}
turn: {udp: 3478, relay_ports: 49152-49999}
admin: {listen: "127.0.0.1:9090"}
sites: {lisbon: {key: ${this.key}}, porto: {key: ${this.otherKey}}}`, { inside });
    await this.portal.start({}, () => /msg=ready/.test(this.portal.child.output));
  }

  /** What the portal counts under a name. */
  portalMetric(name) {
    const text = execFileSync('ip', ['netns', 'exec', internet, 'curl', '-s', 'http://127.0.0.1:9090/metrics']).toString();
    return Number(text.split('\n').find((l) => l.startsWith(`${name} `) || l.startsWith(`${name}{`))?.split(' ').pop() ?? 0);
  }

  /** The engine, in a hospital whose firewall is of that grade. */
  async startEngine(name) {
    const g = grades[name];
    grade(fire, g);
    const bus = g.proxy ? 'url: "wss://portal.test", proxy: "http://ward:s3cret@10.20.0.1:3128"' : `url: "wss://${portalAddress}"`;
    this.engine = engine('lisbon', 'engine.key', bus, engineSpace, { inner: engineAddress, outer: '10.20.0.2', phones });
    await this.engine.start();
    await until(() => this.engine.metric('sipbridge_portal_reached'), () => `the engine to reach its portal: ${this.engine.child.output}`, 20_000);
  }

  /** A second hospital, straight on the internet. */
  async startSecond(portal = portalAddress) {
    space(secondSpace);
    link(secondSpace, 'up0', internet, 'second0');
    ip('-n', internet, 'link', 'set', 'second0', 'master', 'br0');
    ip('-n', secondSpace, 'addr', 'add', '203.0.113.30/24', 'dev', 'up0');
    lanOf(secondSpace, secondLan, '10.76.0.9', '10.76.0.1');
    this.second = { engine: engine('porto', 'other.key', `url: "wss://${portal}"`, secondSpace, { inner: '10.76.0.1', outer: '203.0.113.30', phones: '10.76.0.9', portal }),
      phone: (t) => Raw.open(t, 15099, { host: '10.76.0.9', gateway: '10.76.0.1:5060' }) };
    await this.second.engine.start();
    await until(() => this.second.engine.metric('sipbridge_portal_reached'), () => `the second engine to reach its portal: ${this.second.engine.child.output}`, 20_000);
  }

  /** A whole gateway in the hospital, whose firewall gives it an address of its own on the internet. */
  async startBehindNAT() {
    grade(fire, grades['one to one']);
    certificate('hospital', 'ca', hospitalAddress);
    this.engine = new Gateway(`interfaces: {pbx: {address: ${engineAddress}}, wan: {address: 10.20.0.2, public: ${hospitalAddress}}}
sip: {listen: ["udp://${engineAddress}:5060"]}
media: {rtp_ports: 20000-20999, webrtc_port: 8443, interface: wan}
portal: {listen: "10.20.0.2:443", public_url: "https://${hospitalAddress}"}
tls: {cert_file: ${at('hospital.pem')}, key_file: ${at('hospital.key')}}
turn: {udp: 3478, relay_ports: 49152-49999}
admin: {listen: "${engineAddress}:19090"}
${calling(phones)}`, { inside: engineSpace, admin: `${engineAddress}:19090` });
    await this.engine.start();
  }

  /** The hospital's firewall is of that grade from now on. */
  atHospital(name) { grade(fire, grades[name]); }

  /** Runs our own command in the hospital, to its end. */
  inHospital(...args) {
    const r = spawnSync('ip', ['netns', 'exec', engineSpace, binary, ...args], { encoding: 'utf8', timeout: 120_000 });
    return { code: r.status, out: r.stdout, err: r.stderr };
  }

  /** The TCP ports of the portal that are open to the internet. */
  scan() {
    const open = `const net = require('net'); let next = 1, going = 0; const open = [];
      const more = () => { while (going < 500 && next <= 65535) { const port = next++; going++;
        const s = net.connect({ port, host: '${portalAddress}' }, () => { open.push(port); s.destroy(); });
        s.on('error', () => {}); s.on('close', () => { going--; if (next > 65535 && !going) console.log(JSON.stringify(open.sort((a, b) => a - b))); else more(); }); } }; more();`;
    return JSON.parse(execFileSync('ip', ['netns', 'exec', fire, process.execPath, '-e', open], { timeout: 60_000 }).toString());
  }

  /** The UDP ports that the portal listens on. */
  listensUDP() {
    return execFileSync('ip', ['netns', 'exec', internet, 'ss', '-Hlun']).toString().trim().split('\n').map((l) => Number(l.match(/:(\d+) /)[1]));
  }

  /** The patient's router is of that grade from now on. */
  atHome(name) { grade(router, grades[name]); }

  phone(t) { return Raw.open(t, 15099, { host: phones, gateway: `${engineAddress}:5060` }); }
}

/** What a browser at home must be told where only a proxy leads out. */
export const homeFlags = (name) => (grades[name].proxy ? ['--proxy-server=http://10.78.0.1:3128'] : []);
