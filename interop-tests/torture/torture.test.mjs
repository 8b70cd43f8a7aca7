// Each torture message, over UDP and TCP, from a source that is accepted; after each
// the gateway is asked whether it lives. docs/torture.md is the scorecard.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import net from 'node:net';
import { readFileSync, writeFileSync } from 'node:fs';
import { makeHospital, dropHospital, endAll, sleep } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { messages } from './messages.mjs';

let gateway;
const scores = new Map();

before(async () => {
  makeHospital();
  gateway = await new Gateway(config({ routes: '  - {name: nobody, when: \'call.to.user == "nobody"\', to: ["refuse:603"]}', trunks: '  tormentor: {address: "sip:127.0.0.8:5060", options_every: 0s}' })).start();
});

after(async () => {
  await endAll();
  dropHospital();
});

let branch = 0;
const fill = (text, transport, sender) => text.replaceAll('{transport}', transport).replaceAll('{sender}', sender).replaceAll('{branch}', String(++branch));
/** The final status of the last message sent: others' may be repeated still. */
const status = (heard) => heard.split(/(?=^SIP\/2\.0 )/m).find((m) => /^SIP\/2\.0 [2-6]/.test(m) && new RegExp(`-${branch}(?!\\d)`).test(m))?.slice(8, 11);

/** Sends over UDP from an address that is accepted, at the port where answers go. */
async function byUDP(text) {
  const socket = dgram.createSocket('udp4');
  let heard = '';
  socket.on('message', (m) => { heard += m; });
  await new Promise((r) => socket.bind(5060, '127.0.0.8', r));
  socket.send(Buffer.from(fill(text, 'UDP', '127.0.0.8:5060')), 15060, '127.0.0.1');
  for (let i = 0; i < 40 && !status(heard); i++) await sleep(25);
  await new Promise((r) => socket.close(r));
  return heard;
}

async function byTCP(text, closes) {
  let heard = '', closed = false;
  const socket = net.connect({ host: '10.77.0.1', port: 5060 });
  socket.on('data', (m) => { heard += m; });
  socket.on('close', () => { closed = true; });
  socket.on('error', () => {});
  const port = await new Promise((r) => socket.on('connect', () => r(socket.localPort)));
  socket.write(fill(text, 'TCP', `10.77.0.1:${port}`));
  for (let i = 0; i < 40 && !status(heard) && !closed; i++) await sleep(25);
  socket.destroy();
  return closed && closes && !status(heard) ? 'closed' : heard;
}

async function alive() {
  const ping = messages.find((m) => m.name === 'ipv6-good').text;
  assert.equal(status(await byUDP(ping)), '200', 'the gateway answers OPTIONS still');
}

for (const m of messages) {
  test(`${m.rfc} ${m.name}: ${m.what}`, async () => {
    const got = {};
    for (const transport of m.transports) {
      const heard = transport === 'UDP' ? await byUDP(m.text) : await byTCP(m.text, m.closes);
      got[transport] = heard === 'closed' ? 'closed' : status(heard) ?? 'silence';
    }
    scores.set(m.name, got);
    await alive();
    for (const [transport, answer] of Object.entries(got)) {
      const fine = m.may.length ? m.may.map(String).includes(answer) || m.closes && answer === 'closed' && transport === 'TCP' : answer === 'silence';
      assert.ok(fine, `over ${transport}: ${answer}, not ${m.may.length ? m.may.join(' or ') : 'silence'}`);
    }
  });
}

test('docs/torture.md is the scorecard', () => {
  const rows = messages.map((m) => `| ${m.rfc} | ${m.name} | ${m.what} | ${m.may.length ? m.may.join(', ') : 'silence'} | ${scores.get(m.name)?.UDP ?? '-'} | ${scores.get(m.name)?.TCP ?? '-'} |`);
  const card = `# What torture messages are answered with

Made by \`interop-tests/torture\`: every message of RFC 4475 and RFC 5118, from a source that is accepted. Each is a
message of ours that has in it what is tortuous in the RFC's. "May" is what the test takes: the answer that the RFC
names or, where it leaves that open or we have no such part, what comes of it here: nobody has the
numbers that are called, MESSAGE is not taken, and no room is configured, so that REGISTER is not either. Over TCP a
message without an end closes the connection.

| where | name | what is tortuous | may | UDP | TCP |
| --- | --- | --- | --- | --- | --- |
${rows.join('\n')}
`;
  const file = new URL('../../docs/torture.md', import.meta.url);
  if (process.env.UPDATE) writeFileSync(file, card);
  assert.equal(readFileSync(file, 'utf8'), card);
});
