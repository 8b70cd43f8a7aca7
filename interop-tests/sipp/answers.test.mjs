// Final responses to our INVITE that come more than once, and from more than one
// telephone. Telephones of single messages.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { makeHospital, dropHospital, endAll, sleep, until } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { Raw } from '../lib/raw.mjs';

let gateway;

before(async () => {
  makeHospital();
  gateway = await new Gateway(config({ routes: '  - {name: to the desk, to: ["trunk:desk/2000"]}', trunks: '  desk: {address: "sip:127.0.0.1:15098", options_every: 0s}' })).start();
});

after(async () => {
  await endAll();
  dropHospital();
});

const over = () => until(async () => (await gateway.calls()).length === 0, 'no call to be left');
let calls = 0;

/** A call that reached the desk. */
async function begins(t) {
  const raw = await Raw.open(t, 15099), desk = await Raw.open(t, 15098);
  const dialog = { id: `answers${process.pid}x${++calls}`, tag: `a${calls}`, to: '2000' };
  const { address, port } = raw.rtp.address();
  raw.request('INVITE', dialog, { body: `v=0\r\no=raw 1 1 IN IP4 ${address}\r\ns=-\r\nc=IN IP4 ${address}\r\nt=0 0\r\nm=audio ${port} RTP/AVP 0\r\n` });
  return { raw, desk, dialog, invite: await desk.hears('', /^INVITE /) };
}

const tagOf = (m) => m.match(/^To: .*tag=(\S+)/mi)[1];

test('RFC 3261 §13.2.2.4: a 200 that comes again is acknowledged again; another telephone that answers, too, is hung up', async (t) => {
  const { raw, desk, dialog, invite } = await begins(t);
  desk.answer(invite, 200, { tag: 'first', sdp: true });
  const ack = await desk.hears('', /^ACK /);
  const ok = await raw.hears(dialog.id, /^SIP\/2\.0 200/);
  raw.confirm(dialog, ok);
  raw.request('ACK', dialog);
  for (const after of [50, 1500]) {
    await sleep(after);
    desk.answer(invite, 200, { tag: 'first', sdp: true });
    const again = await desk.hears('', /^ACK /);
    assert.equal(tagOf(again), 'first');
    assert.equal(again.match(/^CSeq: .*$/m)[0], ack.match(/^CSeq: .*$/m)[0]);
  }
  desk.answer(invite, 200, { tag: 'second', sdp: true });
  assert.equal(tagOf(await desk.hears('', /^ACK /)), 'second');
  const bye = await desk.hears('', /^BYE /);
  assert.equal(tagOf(bye), 'second');
  desk.answer(bye, 200);
  await sleep(300);
  assert.equal((await gateway.calls())[0].state, 'talking');
  assert.ok(!desk.heard.some((m) => m.startsWith('BYE')), 'the first one talks on');
  await raw.bye(dialog);
  const last = await desk.hears('', /^BYE /);
  assert.equal(tagOf(last), 'first');
  desk.answer(last, 200);
  await over();
});

test('RFC 3261 §17.1.1.2: a refusal that comes again is acknowledged again', async (t) => {
  const { raw, desk, dialog, invite } = await begins(t);
  desk.answer(invite, 486, { tag: 'busy' });
  await desk.hears('', /^ACK /);
  await raw.hears(dialog.id, /^SIP\/2\.0 486/);
  raw.request('ACK', dialog);
  for (let i = 0; i < 2; i++) {
    await sleep(700);
    desk.answer(invite, 486, { tag: 'busy' });
    assert.equal(tagOf(await desk.hears('', /^ACK /)), 'busy');
  }
  await over();
});
