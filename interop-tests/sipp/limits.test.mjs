// What a trunk may have of calls: at once, and in a second; and what a stranger is told.
// Telephones of single messages.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { makeHospital, dropHospital, endAll, until } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { Raw } from '../lib/raw.mjs';

let gateway;

before(async () => {
  makeHospital();
  gateway = await new Gateway(config({ routes: `  - {name: narrow, when: 'call.to.user == "1"', to: [trunk:narrow]}
  - {name: narrow or wide, when: 'call.to.user == "2"', to: [trunk:narrow, trunk:wide]}`,
  trunks: `  narrow: {address: "sip:127.0.0.1:15098", options_every: 0s, max_calls: 1}
  wide: {address: "sip:127.0.0.1:15097", options_every: 0s}
  first: {address: "sip:127.0.0.1:15096", options_every: 0s, calls_per_second: 4} # whoever calls from 127.0.0.1` })
    .replace('accept_from: [10.77.0.0/24], ', '').replace('sip:\n', 'sip:\n  strangers: refuse\n')
    + 'emergency: {numbers: ["112"]}\n').start();
});

after(async () => {
  await endAll();
  dropHospital();
});

let calls = 0;
const dialog = (to) => ({ id: `call${process.pid}x${++calls}`, tag: `a${calls}`, to });

test('one call more than a trunk may carry gets 503 with Retry-After, or goes the next way', async (t) => {
  const raw = await Raw.open(t, 15099);
  const narrow = await Raw.open(t, 15098);
  const wide = await Raw.open(t, 15097);
  const one = dialog('1');
  const up = raw.call(one);
  narrow.answer(await narrow.hears('', /^INVITE /), 200, { tag: 'n', sdp: true });
  await up;
  assert.equal(await gateway.metric('sipbridge_trunk_calls{trunk="narrow"}'), 1);
  const two = dialog('1');
  raw.request('INVITE', two);
  assert.match(await raw.hears(two.id, /^SIP\/2\.0 503/), /^Retry-After: 5\r$/m);
  raw.request('ACK', two);
  const three = dialog('2');
  const next = raw.call(three);
  wide.answer(await wide.hears('', /^INVITE /), 200, { tag: 'w', sdp: true });
  await next;
  assert.equal(await gateway.metric('sipbridge_trunk_refused_total{reason="calls",trunk="narrow"}'), 2);
  const ends = [raw.bye(one), raw.bye(three)];
  narrow.answer(await narrow.hears('', /^BYE /), 200);
  wide.answer(await wide.hears('', /^BYE /), 200);
  await Promise.all(ends);
  await until(async () => await gateway.metric('sipbridge_trunk_calls{trunk="narrow"}') === 0, 'the place to be free');
});

test('more calls in a second than a trunk may bring get 503; an emergency number never does', async (t) => {
  const raw = await Raw.open(t, 15099);
  await new Promise((r) => setTimeout(r, 1100));
  const many = Array.from({ length: 20 }, () => dialog('404'));
  for (const d of many) raw.request('INVITE', d);
  const urgent = dialog('112');
  raw.request('INVITE', urgent);
  const status = async (d) => Number((await raw.hears(d.id, /^SIP\/2\.0 [2-6]/)).match(/^SIP\/2\.0 (\d+)/)[1]);
  const all = [];
  for (const d of many) all.push(await status(d));
  const taken = all.filter((s) => s === 404).length;
  assert.ok(taken >= 4 && taken <= 6, `${taken} of 20 were taken`);
  assert.equal(all.filter((s) => s === 503).length, 20 - taken);
  assert.notEqual(await status(urgent), 503);
  assert.equal(await gateway.metric('sipbridge_trunk_refused_total{reason="rate",trunk="first"}'), 20 - taken);
  for (const d of [...many, urgent]) raw.request('ACK', d);
});

for (const method of ['OPTIONS', 'INVITE', 'REGISTER', 'BYE', 'MESSAGE']) {
  test(`a stranger's ${method} is refused with 403 where strangers are to be told`, async (t) => {
    const socket = dgram.createSocket('udp4');
    t.after(() => socket.close());
    const answers = [];
    socket.on('message', (m) => answers.push(String(m)));
    await new Promise((r) => socket.bind(0, '10.77.0.1', r));
    socket.send([`${method} sip:1@10.77.0.1 SIP/2.0`, `Via: SIP/2.0/UDP 10.77.0.1:${socket.address().port};branch=z9hG4bK${method}`, 'From: <sip:x@10.77.0.1>;tag=1',
      'To: <sip:1@10.77.0.1>', `Call-ID: stranger-${method}`, `CSeq: 1 ${method}`, 'Max-Forwards: 70', 'Content-Length: 0', '', ''].join('\r\n'), 5060, '10.77.0.1');
    await until(() => answers.length, 'an answer');
    assert.match(answers[0], /^SIP\/2\.0 403 /);
  });
}
