// The commands and the API, as an administrator and a script use them.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { makeHospital, dropHospital, endAll, until, sleep } from '../lib/net.mjs';
import { Gateway, config, run, token } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { answering, passes, sipp } from '../lib/sipp.mjs';

const routes = `  - {name: patients to the ward, when: 'call.source == "browser"', to: [trunk:ward]}
  - {name: telephones to patients, when: 'call.to.user.matches("^7[0-9]{6}$")', to: [visit]}`;

let gateway, browser;

before(async () => {
  makeHospital();
  gateway = await new Gateway(config({ routes, drain: '20s' })).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

const json = (...args) => {
  const r = run(...args, '--json');
  assert.equal(r.code, 0, r.err);
  return JSON.parse(r.out);
};

async function talking(t) {
  const ward = await answering('uas-until-bye.xml');
  const patient = await Patient.open(t, browser, (await gateway.invite('sip:1000@hospital')).url);
  await patient.reach('lobby');
  await patient.join();
  await patient.reach('connected');
  return { ward, patient };
}

test('check: no fault, every fault with its place, and wrong usage have exit codes of their own', () => {
  assert.deepEqual(run('check', '--config', gateway.file), { code: 0, out: `${gateway.file}: no fault\n`, err: '' });
  const bad = `${gateway.dir}/bad.yaml`;
  writeFileSync(bad, 'site: lisbon\nmedia: {rtp_ports: many}\ntrunks:\n  pbx: {adress: "sip:10.0.0.1"}\nroutes:\n  - {name: a, when: "call.sorce == 1", to: [trunk:none]}\n');
  const r = run('check', '--config', bad);
  assert.equal(r.code, 1);
  for (const [place, word] of [['2:', 'many'], ['4:', 'adress'], ['6:', 'sorce'], ['6:', 'none']]) {
    assert.ok(r.err.split('\n').some((l) => l.startsWith(`${bad}:${place}`) && l.includes(word)), `${word} is not named at ${place} in\n${r.err}`);
  }
  assert.equal(run('check').code, 2);
  assert.equal(run('serve', '--nonsense').code, 2);
  assert.equal(run('check', '--config', '/nowhere.yaml').code, 1);
});

test('describe prints the reference configuration', () => {
  assert.equal(run('describe').out, readFileSync(new URL('../../configs/reference.yaml', import.meta.url), 'utf8'));
});

test('route explains with the rules of the configuration', async () => {
  const d = json('route', '--config', gateway.file, '--source', 'pbx', '--from', 'sip:300@hospital', '--to', 'sip:7123456@gateway', '--at', '2026-11-20 09:00');
  assert.equal(d.decision, 'route');
  assert.equal(d.route, 'telephones to patients');
  assert.deepEqual(d.targets, ['visit']);
  assert.deepEqual(d.trace.map((s) => [s.route, s.matched]), [['patients to the ward', false], ['telephones to patients', true]]);
  assert.match(d.trace[0].why, /pbx/);
  assert.deepEqual(await gateway.api('POST', '/api/v1/route', { source: 'pbx', from: 'sip:300@hospital', to: 'sip:7123456@gateway', at: '2026-11-20 09:00' }), d);
  assert.match(run('route', '--config', gateway.file, '--source', 'pbx', '--to', '1').out, /none|refuse/);
});

test('invite prints a link and a dial code that work', async (t) => {
  const inv = json('invite', '--config', gateway.file, '--to', 'sip:1000@hospital', '--name', 'Maria');
  assert.deepEqual(Object.keys(inv).sort(), ['dial_code', 'expires', 'id', 'url']);
  assert.match(inv.dial_code, /^7[0-9]{6}$/);
  const hours = (new Date(inv.expires) - Date.now()) / 3600e3;
  assert.ok(hours > 1.9 && hours <= 2, `valid for ${hours} h`);
  const patient = await Patient.open(t, browser, inv.url);
  await patient.reach('lobby');
  assert.match(await patient.page.innerText('main'), /Maria/);
  assert.match(run('invite', '--config', gateway.file, '--to', 'sip:1000@hospital').out, /link +http.*\ndial code +7/);
  assert.equal(run('invite', '--config', gateway.file, '--to', 'nonsense').code, 1);
  assert.equal(run('invite', '--config', gateway.file).code, 2);
});

test('calls shows who talks and how well; hangup ends it', async (t) => {
  const { ward, patient } = await talking(t);
  await sleep(1500);
  const calls = json('calls', '--config', gateway.file);
  assert.equal(calls.length, 1);
  assert.equal(calls[0].state, 'talking');
  assert.equal(calls[0].route, 'patients to the ward');
  assert.deepEqual(calls[0].legs.map((l) => l.kind).sort(), ['browser', 'sip']);
  for (const l of calls[0].legs) {
    for (const k of ['kind', 'path', 'loss', 'jitter_ms', 'rtt_ms', 'mos']) assert.ok(k in l.media[0], k);
  }
  assert.match(run('calls', '--config', gateway.file).out, /talking/);
  assert.deepEqual(await gateway.api('GET', `/api/v1/calls/${calls[0].id}`).then((c) => c.id), calls[0].id);
  assert.equal(run('hangup', '--config', gateway.file, 'nobody').code, 1);
  assert.equal(run('hangup', '--config', gateway.file, calls[0].id).code, 0);
  await patient.reach('ended');
  await passes(ward);
  const record = await until(() => gateway.records().find((r) => r.id === calls[0].id), 'the record');
  assert.match(record.cause.text, /administrator/);
});

test('the API wants its token, names what is wrong, and describes itself', async () => {
  const base = 'http://127.0.0.1:19090';
  const ask = (path, init) => fetch(base + path, init);
  const authorization = `Bearer ${token}`;
  for (const [path, init, status] of [
    ['/api/v1/calls', {}, 401],
    ['/api/v1/calls', { headers: { authorization: 'Bearer wrong' } }, 401],
    ['/api/v1/calls/none', { headers: { authorization } }, 404],
    ['/api/v1/nothing', { headers: { authorization } }, 404],
    ['/api/v1/invites', { method: 'POST', headers: { authorization }, body: '{"too":"x"}' }, 400],
    ['/api/v1/invites', { method: 'POST', headers: { authorization }, body: 'x'.repeat(100000) }, 400],
    ['/api/v1/invites/none', { method: 'DELETE', headers: { authorization } }, 404],
  ]) {
    const r = await ask(path, init);
    assert.equal(r.status, status, path);
    assert.equal(r.headers.get('content-type'), 'application/problem+json', path);
    assert.ok((await r.json()).detail, path);
  }
  const spec = await (await ask('/api/v1/openapi.json', { headers: { authorization } })).json();
  for (const p of ['/api/v1/invites', '/api/v1/invites/{id}', '/api/v1/calls', '/api/v1/calls/{id}', '/api/v1/route']) assert.ok(spec.paths[p], p);
  assert.equal(await (await ask('/healthz')).text(), 'ok\n');
  assert.equal((await ask('/readyz')).status, 200);
  const metrics = await (await ask('/metrics')).text();
  for (const word of ['Maria', '1000@', 'visit 7']) assert.ok(!metrics.includes(word), `the metrics name ${word}`);
});

test('a drain: not ready, new calls get 503, the call that goes on is left alone, and its end is the end', async (t) => {
  const { ward, patient } = await talking(t);
  gateway.child.kill('SIGTERM');
  await until(async () => (await fetch('http://127.0.0.1:19090/readyz')).status === 503, '503 from readyz');
  const late = await Patient.open(t, browser, (await gateway.invite('sip:1000@hospital')).url);
  await late.reach('lobby');
  await late.join();
  await late.reach('ended');
  assert.match(await late.text('status'), /being restarted/);
  const refused = sipp('uac-until-bye.xml', { service: '7000000', port: 5070 });
  assert.notEqual(await refused.over, 0);
  assert.match(refused.messages(), /SIP\/2.0 503 /);
  assert.match(refused.messages(), /Retry-After: \d+/);
  assert.equal(await patient.state(), 'connected');
  await patient.page.click('#hangup');
  await passes(ward);
  assert.equal(await gateway.child.over, 0);
});
