// Mutated messages, and peers that begin what they do not end, while calls go on:
// each call must go as if nothing were. MUTATED_SECONDS says for how long.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import net from 'node:net';
import { makeHospital, dropHospital, endAll, sleep, until } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { Caller, Callee } from '../lib/scenario.mjs';
import { answering, passes, sipp } from '../lib/sipp.mjs';
import { messages } from './messages.mjs';

const seconds = Number(process.env.MUTATED_SECONDS ?? 20);
const perSecond = 400;
const seed = Number(process.env.MUTATED_SEED ?? 4475);

let gateway;

before(async () => {
  makeHospital();
  gateway = await new Gateway(config({ routes: `  - {name: calls, when: 'call.from.user == "300"', to: [trunk:ward]}
  - {name: mutants, to: ["refuse:603"]}`, trunks: '  tormentor: {address: "sip:127.0.0.8:5060", options_every: 0s}' })).start();
});

after(async () => {
  await endAll();
  dropHospital();
});

/** A generator of numbers below n, the same for the same seed. */
function lot(from) {
  let x = from;
  return (n) => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return Math.floor(x / 2 ** 32 * n);
  };
}

const fill = (text, transport, n) => Buffer.from(text.replaceAll('{transport}', transport).replaceAll('{sender}', '127.0.0.8:5060').replaceAll('{branch}', `m${n}`));

/** A message with something wrong with it. */
function mutated(draw, n, transport) {
  const of = () => fill(messages[draw(messages.length)].text, transport, n);
  let m = of();
  for (let i = draw(4); i >= 0; i--) {
    const at = draw(m.length), length = draw(40);
    switch (draw(7)) {
      case 0: m[at] = draw(256); break;
      case 1: m = Buffer.concat([m.subarray(0, at), m.subarray(at + length)]); break;
      case 2: m = Buffer.concat([m.subarray(0, at), m.subarray(at, at + length), m.subarray(at)]); break;
      case 3: m = m.subarray(0, at); break;
      case 4: { const other = of(); m = Buffer.concat([m.subarray(0, at), other.subarray(draw(other.length))]); break; }
      case 5: m = Buffer.concat([m.subarray(0, at), Buffer.alloc(length, draw(2) ? ';' : '"'), m.subarray(at)]); break;
      default: m = Buffer.concat([m.subarray(0, at), Buffer.from(String(2 ** draw(80))), m.subarray(at)]);
    }
    if (m.length === 0) m = Buffer.from('\r\n');
  }
  return m;
}

async function calls(during) {
  const n = Math.max(40, 4 * seconds);
  const ward = await answering(new Callee().isCalled().answers(180).waits(100).takes().isHungUp().xml('called'), { calls: n, seconds: seconds + 60 });
  const pbx = sipp(new Caller().calls().waits(400).hangsUp().xml('calls'), { at: '10.77.0.2', service: '1000', calls: n, rate: 4, seconds: seconds + 60 });
  await during();
  await passes(pbx);
  await passes(ward);
  await until(async () => (await gateway.calls()).length === 0, 'no call to be left', 40000);
  return n;
}

test(`${perSecond} mutated messages a second over UDP and TCP harm no call`, async (t) => {
  const draw = lot(seed);
  const before = await gateway.holds();
  let sent = 0, answers = 0;
  const n = await calls(async () => {
    const udp = dgram.createSocket('udp4');
    udp.on('message', () => { answers += 1; });
    await new Promise((r) => udp.bind(5060, '127.0.0.8', r));
    const end = Date.now() + seconds * 1000;
    let tcp;
    while (Date.now() < end) {
      for (let i = 0; i < perSecond / 50; i++) {
        if (sent % 4) {
          udp.send(mutated(draw, sent, 'UDP'), 15060, '127.0.0.1');
        } else {
          if (!tcp || tcp.destroyed) {
            tcp = net.connect({ host: '10.77.0.1', port: 5060 });
            tcp.on('error', () => {});
            tcp.on('data', () => { answers += 1; });
            tcp.on('close', () => { tcp = undefined; });
          }
          tcp.write(mutated(draw, sent, 'TCP'));
        }
        sent += 1;
      }
      await sleep(20);
    }
    tcp?.destroy();
    await new Promise((r) => udp.close(r));
  });
  assert.equal((await fetch('http://127.0.0.1:19090/readyz')).status, 200);
  t.diagnostic(`${sent} mutants with the seed ${seed}, ${answers} answers, ${n} calls unharmed, ${await gateway.metric('sipbridge_sip_malformed_total')} refused with 400`);
  assert.ok(answers > sent / 20, `${answers} answers to ${sent} messages`);
  await until(async () => {
    const now = await gateway.holds();
    return now.ports === before.ports && now.dialogs === before.dialogs && now.goroutines < before.goroutines + 20 && now.fds < before.fds + 8;
  }, 'nothing to be left behind', 60000);
});

test('peers that begin a message and do not end it, or do not read, are let go, and harm no call', async (t) => {
  const open = [];
  let closed = 0;
  const connect = (host, from, what) => new Promise((resolve) => {
    const c = net.connect({ host, port: 5060, localAddress: from });
    c.on('error', () => {});
    c.on('close', () => { closed += 1; });
    c.on('connect', () => { what(c); resolve(c); });
    open.push(c);
  });
  t.after(() => open.forEach((c) => c.destroy()));
  await calls(async () => {
    for (let i = 0; i < 100; i++) await connect('10.77.0.1', '10.77.0.1', (c) => c.write('OPTIONS sip:a@10.77.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP'));
    // Half a body, a byte at a time: as long as it goes on, and no longer than one message may take.
    const slow = await connect('10.77.0.1', '10.77.0.1', (c) => c.write('OPTIONS sip:a@10.77.0.1 SIP/2.0\r\nContent-Length: 5000\r\n\r\n'));
    const drip = setInterval(() => slow.write('x'), 500);
    t.after(() => clearInterval(drip));
    const deaf = await connect('10.77.0.1', '10.77.0.1', (c) => c.pause());
    const ask = fill(messages.find((m) => m.name === 'ipv6-good').text, 'TCP', 0);
    for (let i = 0; i < 20000 && !deaf.destroyed; i++) deaf.write(ask);
    await until(() => closed >= 101, () => `${closed} of the slow to be closed`, 30000);
  });
});
