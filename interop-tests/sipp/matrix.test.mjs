// SIPp as every telephone of the matrix; a patient without a browser, or a telephone
// that says little, is at the other end.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { makeHospital, dropHospital, endAll, track, until } from '../lib/net.mjs';
import { Gateway, binary, config } from '../lib/gateway.mjs';
import { answering, passes, sipp } from '../lib/sipp.mjs';
import { Caller } from '../lib/scenario.mjs';
import { compliance } from './compliance.mjs';
import { matrix } from './matrix.mjs';

const routes = `  - {name: to patients, when: 'call.to.user.matches("^7[0-9]{6}$")', to: [visit]}
  - {name: to the desk, when: 'call.to.user == "3000"', to: [trunk:desk]}
  - {name: to the safe, when: 'call.to.user == "3001"', to: [trunk:safe]}
  - {name: to the wary, when: 'call.to.user == "3002"', to: [trunk:wary]}
  - {name: to the old, when: 'call.to.user == "3003"', to: [trunk:old]}
  - {name: to the new, when: 'call.to.user == "3004"', to: [trunk:new]}
  - {name: costly, when: 'call.to.user.startsWith("900")', to: [trunk:desk]}
  - {name: nurse call, when: 'call.to.user == "3005"', to: [trunk:ward], at_once: true}
  - {name: from the old and the new, when: 'call.to.user == "3006"', to: [trunk:ward]}
  - {name: to the ward, when: 'call.trunk == "pbx"', to: [trunk:ward]}`;
const trunks = `  desk: {address: "sip:10.77.0.3:5060", interface: pbx, options_every: 0s, trusted: true}
  safe: {address: "sip:10.77.0.5:5060", interface: pbx, options_every: 0s, srtp: required}
  wary: {address: "sip:10.77.0.6:5060", interface: pbx, options_every: 0s, srtp: optional}
  old: {address: "sip:10.77.0.7:5060", interface: pbx, options_every: 0s, hold: zero, reliable: "off", event_payload: 96, ptime: 40ms, headers: [X-Visit, User-to-User], refer: pass, early_media: false, trusted: true, quirks: [cisco]}
  new: {address: "sip:10.77.0.8:5060", interface: pbx, options_every: 0s, hold: inactive, reliable: required, refer: refuse, session_expires: 0s}
classes:
  costly: {numbers: "^900", from: [pbx]}`;

let gateway, code;

before(async () => {
  makeHospital();
  gateway = await new Gateway(config({ routes, trunks, pbx: 'trusted: true' })).start();
  const inv = await gateway.invite('sip:1000@hospital');
  const patient = track(spawn(binary, ['load', 'patient', inv.url], { stdio: ['ignore', 'pipe', 'pipe'] }));
  await until(() => patient.output.includes('welcome'), () => patient.output);
  code = inv.dial_code;
});

after(async () => {
  await endAll();
  dropHospital();
});

for (const line of matrix) {
  test(`${line.rfc}: ${line.what}`, async () => {
    const caller = line.caller?.() ?? new Caller().calls().waits(1000 * (line.seconds ?? 2)).hangsUp();
    const called = line.callee && await answering(line.callee().xml(line.what), { seconds: 30, at: line.calleeAt });
    const calling = sipp(caller.xml(line.what), { seconds: 30, at: line.at ?? (called ? '10.77.0.2' : '10.77.0.4'), ...(called ? {} : { service: code }) });
    if (line.caller) await passes(calling);
    if (called) await passes(called);
    if (!line.caller) calling.kill(); // the call may have been ended at the other side
    await until(async () => (await gateway.calls()).length === 0, 'no call to be left');
  });
}

test('docs/compliance.md is what the matrix says', () => {
  assert.equal(readFileSync(new URL('../../docs/compliance.md', import.meta.url), 'utf8'), compliance());
});
