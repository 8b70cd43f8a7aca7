// The routing policy as an administrator changes it: read again, told, compared, taken
// back, and obeyed by the calls of the moment.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { makeHospital, dropHospital, endAll, sleep, until } from '../lib/net.mjs';
import { Gateway, config, run } from '../lib/gateway.mjs';
import { launch, Patient } from '../lib/page.mjs';
import { Raw } from '../lib/raw.mjs';
import { answering, passes, sipp } from '../lib/sipp.mjs';

const first = `  - {name: patients to the ward, when: 'call.source == "browser" && call.label("department") == "ward"', to: ["trunk:ward/1000"]}
  - {name: one at a time, when: 'call.source == "lab" && call.to.user == "5"', to: ["trunk:ward/5"], limit: {calls: 1, full: next}}
  - {name: the others, when: 'call.source == "lab" && call.to.user.startsWith("5")', to: ["trunk:ward/6"], number: {prefix: "0"}, caller: "2130"}
  - {name: telephones to the ward, when: 'call.source == "pbx"', to: ["trunk:ward/1000"]}
emergency: {numbers: ["112"], to: ["trunk:ward/112"], text: {en: "Call 112, says the hospital.", pt: "Ligue 112, diz o hospital."}}`;

let gateway, browser, file;

before(async () => {
  makeHospital();
  gateway = await new Gateway(config({ routes: first }).replace('20000-20999', '26000-31999') + 'reload_on_change: true\n').start();
  file = readFileSync(gateway.file, 'utf8');
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

const policy = (...args) => run('policy', args[0], '--config', gateway.file, ...args.slice(1));
const inForce = () => gateway.metric('sipbridge_policy_version');
const decides = (to, more = {}) => gateway.api('POST', '/api/v1/route', { source: 'pbx', from: 'sip:300@h', to, ...more });

test('a policy is read again by command, by SIGHUP and when its file changes; each is a version that can be compared and taken back', async () => {
  assert.equal(await inForce(), 1);
  const second = file.replace('"trunk:ward/1000"]}\nemergency', '"trunk:ward/2000"]}\nemergency');
  assert.notEqual(second, file);
  writeFileSync(gateway.file, second);
  const told = policy('reload');
  assert.equal(told.code, 0, told.err);
  assert.match(told.out, /version 2 is in force/);
  assert.deepEqual((await decides('1')).targets, ['trunk:ward/2000']);

  const diff = policy('diff', '1', '2');
  assert.match(diff.out, /^-.*trunk:ward\/1000.*\n\+.*trunk:ward\/2000/m);
  assert.ok(!diff.out.includes('token') && !diff.out.includes('listen'), 'nothing but the policy is kept');

  const back = policy('rollback', '1');
  assert.match(back.out, /the file still says otherwise/);
  assert.deepEqual((await decides('1')).targets, ['trunk:ward/1000']);

  gateway.child.kill('SIGHUP');
  await until(async () => (await decides('1')).targets[0] === 'trunk:ward/2000', 'SIGHUP to be obeyed');

  writeFileSync(gateway.file, file);
  await until(async () => (await decides('1')).targets[0] === 'trunk:ward/1000', 'the file to be read again');
  const history = policy('history');
  assert.match(history.out, /3 +\S+ \S+ +\w+@\S+ by the API, back to 1/, 'who asked, by the command\'s word');
  assert.match(history.out, /4 +\S+ \S+ +SIGHUP/);
  assert.match(history.out, /5 +\S+ \S+ +the file changed +in force/);
  assert.equal(policy('rollback', '99').code, 1);
  assert.equal(policy('diff', '1').code, 2);
});

test('a file with a fault is not taken, and says why; what runs goes on', async () => {
  const version = await inForce(), failed = await gateway.metric('sipbridge_policy_reloads_failed_total');
  writeFileSync(gateway.file, file.replace('call.source == "pbx"', 'call.sauce == "pbx"').replace('full: next', 'full: maybe'));
  const r = policy('reload');
  assert.equal(r.code, 1);
  assert.match(r.err, /undefined field 'sauce'/);
  assert.match(r.err, /"maybe" is not what becomes of a call/);
  assert.equal(await inForce(), version);
  assert.ok(await gateway.metric('sipbridge_policy_reloads_failed_total') > failed);
  assert.deepEqual((await decides('1')).targets, ['trunk:ward/1000']);
  writeFileSync(gateway.file, file);
});

test('the policy survives a restart, and its versions do', async () => {
  const before = JSON.parse(policy('history', '--json').out);
  await gateway.stop();
  await gateway.start();
  const now = JSON.parse(policy('history', '--json').out);
  assert.deepEqual(now.versions, before.versions);
  assert.equal(now.current, before.current);
});

test('a patient who is led to an emergency number is told what the hospital says, in the page\'s language', async (t) => {
  for (const [language, words] of [['en', 'Call 112, says the hospital.'], ['pt', 'Ligue 112, diz o hospital.']]) {
    const patient = await Patient.open(t, browser, (await gateway.invite('sip:112@hospital')).url, `plain&lang=${language}`);
    await patient.reach('lobby');
    await patient.join();
    await patient.reach('ended');
    assert.equal(await patient.text('status'), words);
  }
  assert.ok(gateway.records().slice(-2).every((r) => r.emergency), 'the record says so');
});

test('a telephone that calls one is led where the file says, past every limit', async (t) => {
  writeFileSync(gateway.file, file.replace('"trunk:ward/112"', '"trunk:lab/112"'));
  assert.equal(policy('reload').code, 0);
  const phone = await Raw.open(t, 15099); // the lab's own address: it calls, and is called
  const help = { id: 'help', tag: 'h', to: '112' }, done = phone.call(help);
  const invite = await phone.hears('', /^INVITE sip:112@/);
  phone.answer(invite, 200, { tag: 'w', sdp: true });
  await done;
  assert.match(gateway.child.output, /msg="an emergency call"/);
  const said = phone.hears('', /^BYE/).then((bye) => phone.answer(bye, 200));
  await phone.bye(help);
  await said;
  writeFileSync(gateway.file, file);
  assert.equal(policy('reload').code, 0);
});

test('the label of an invitation leads its patient', async (t) => {
  const ward = await answering('uas-until-bye.xml');
  const inv = JSON.parse(run('invite', '--config', gateway.file, '--to', 'sip:1000@h', '--label', 'department=ward', '--json').out);
  const patient = await Patient.open(t, browser, inv.url);
  await patient.reach('lobby');
  await patient.join();
  await patient.reach('connected');
  await patient.page.click('#hangup');
  await passes(ward);
  const other = await Patient.open(t, browser, (await gateway.invite('sip:1000@h')).url);
  await other.reach('lobby');
  await other.join();
  await other.reach('ended');
});

test('a route that is full lets the next one have the call, with another number and another caller', async (t) => {
  const ward = await answering('uas-until-bye.xml', { calls: 2 });
  const phone = await Raw.open(t, 15099);
  const one = { id: 'one', tag: 'a', to: '5' }, two = { id: 'two', tag: 'b', to: '5' };
  await phone.call(one);
  await phone.call(two);
  const routes = (await gateway.calls()).map((c) => c.route).sort();
  assert.deepEqual(routes, ['one at a time', 'the others']);
  await until(() => ward.messages().includes('INVITE sip:6@'), 'the second one at the ward');
  assert.match(ward.messages(), /INVITE sip:6@[^]*?From: [^\n]*sip:2130@/);
  for (const d of [one, two]) await phone.bye(d);
  await passes(ward);
  assert.ok((await (await fetch('http://127.0.0.1:19090/metrics')).text()).includes('sipbridge_route_calls_total{outcome="full",route="one at a time"}'));
});

test('a policy that changes under 50 calls a second loses no call and mixes no decisions', async () => {
  const calls = 500, before = gateway.records().length;
  const ward = await answering('uas-until-bye.xml', { calls, limit: 500, rate: 100 });
  const other = file.replace('name: telephones to the ward, when: \'call.source == "pbx"\', to: ["trunk:ward/1000"]', 'name: telephones to another number, when: \'call.source == "pbx"\', to: ["trunk:ward/2000"]');
  assert.notEqual(other, file);
  const caller = sipp('uac-short.xml', { at: '10.77.0.5', calls, rate: 50, limit: 500 });
  let over = false;
  caller.over.then(() => { over = true; });
  let changes = 0;
  while (!over) {
    writeFileSync(gateway.file, changes % 2 ? file : other);
    const r = await gateway.api('POST', '/api/v1/policy/reload');
    assert.ok(r.current > 0);
    changes++;
    await sleep(100);
  }
  await passes(caller);
  await passes(ward);
  await until(() => gateway.records().length >= before + calls, 'every record');
  const seen = { 'telephones to the ward': 0, 'telephones to another number': 0 };
  for (const r of gateway.records().slice(before)) {
    const number = { 'telephones to the ward': 'ward/1000', 'telephones to another number': 'ward/2000' }[r.route];
    assert.ok(r.legs.some((l) => l.peer === number), `${r.route}: ${JSON.stringify(r.legs.map((l) => l.peer))}`);
    seen[r.route]++;
  }
  assert.ok(seen['telephones to the ward'] > 20 && seen['telephones to another number'] > 20, JSON.stringify(seen));
  writeFileSync(gateway.file, file);
});
