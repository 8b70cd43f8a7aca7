// Where a trunk is: by NAPTR and SRV records that dnsmasq serves, and by TCP what is
// too long for UDP.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { forgets, server, serves } from '../lib/dns.mjs';
import { makeHospital, dropHospital, endAll, speakSix, until, sleep } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { Caller, Callee, pcma } from '../lib/scenario.mjs';
import { answering, passes, sipp } from '../lib/sipp.mjs';

const routes = `  - {name: by name, when: 'call.to.user == "1000"', to: [trunk:named]}
  - {name: later, when: 'call.to.user == "1001"', to: [trunk:late]}
  - {name: long, when: 'call.to.user == "1002"', to: [trunk:long]}
  - {name: from six to four, when: 'call.trunk == "six"', to: [trunk:ward]}
  - {name: from four to six, when: 'call.to.user == "1006"', to: [trunk:six]}
  - {name: udp, when: 'call.to.user == "1003"', to: [trunk:udp]}`;
const trunks = `  named: {address: "sip:hospital.test", interface: pbx, options_every: 0s}
  late: {address: "sip:late.test", interface: pbx, options_every: 0s}
  long: {address: "sip:10.77.0.8:5060", interface: pbx, options_every: 0s, trusted: true}
  udp: {address: "sip:10.77.0.5:5060", interface: pbx, options_every: 0s, trusted: true}
  six: {address: "sip:[fd77::2]:5060", interface: six, options_every: 0s}`;

let gateway;

before(async () => {
  makeHospital();
  speakSix();
  await serves('naptr-record=hospital.test,20,10,S,SIP+D2U,,_sip._udp.hospital.test', 'naptr-record=hospital.test,10,10,S,SIP+D2T,,_sip._tcp.hospital.test',
    'srv-host=_sip._tcp.hospital.test,a.hospital.test,5070,0,1', 'srv-host=_sip._tcp.hospital.test,b.hospital.test,5071,1,1',
    'srv-host=_sip._udp.hospital.test,never.hospital.test,5060,0,1', 'address=/a.hospital.test/10.77.0.7', 'address=/b.hospital.test/10.77.0.8');
  gateway = await new Gateway(config({ routes, trunks, pbx: 'trusted: true', sip: `  nameserver: ${server}\n  resolve_every: 1s` })
    .replace('interfaces: {', 'interfaces: {six: {address: "fd77::1"}, ').replace('listen: [', 'listen: ["udp://[fd77::1]:5060", ')).start();
});

after(async () => {
  await endAll();
  dropHospital();
});

const called = (at, port, ...patterns) => answering(new Callee().isCalled(...patterns).takes().isHungUp().xml('called'), { at, port, seconds: 20, extra: ['-t', 't1'] });
const calls = (service, options = {}) => sipp(new Caller().calls(options).waits(300).hangsUp().xml('calls'), { at: '10.77.0.2', service, seconds: 20 });
const trunk = async (name) => (await gateway.api('GET', '/api/v1/trunks')).filter((t) => t.name === name);

test('RFC 3263 §4.1, §4.2: the domain\'s first wish for a transport is followed, and the port of its SRV record', async () => {
  const a = await called('10.77.0.7', 5070, 'INVITE sip:1000@hospital.test SIP/2.0', 'Via: SIP/2.0/TCP');
  await passes(calls('1000'));
  await passes(a);
  assert.deepEqual((await trunk('named')).map((t) => t.address), ['sip:hospital.test at 10.77.0.7:5070', 'sip:hospital.test at 10.77.0.8:5071']);
});

test('RFC 3263 §4.3: when nobody takes the connection the next record is tried', async () => {
  const b = await called('10.77.0.8', 5071);
  await passes(calls('1000'));
  await passes(b);
});

test('a record that changes is followed', async () => {
  await serves('srv-host=_sip._tcp.hospital.test,c.hospital.test,5072,0,1', 'address=/c.hospital.test/10.77.0.6');
  await until(async () => (await trunk('named')).map((t) => t.address).join() === 'sip:hospital.test', async () => JSON.stringify(await trunk('named')));
  const c = await called('10.77.0.6', 5072);
  await passes(calls('1000'));
  await passes(c);
});

test('a name that leads nowhere yet does not keep the gateway from starting, and is found when it does', async () => {
  await passes(sipp(new Caller().says('INVITE', { sdp: pcma() }).hears(503).says('ACK').xml('nowhere'), { at: '10.77.0.2', service: '1001', seconds: 20 }));
  await serves('address=/late.test/10.77.0.6');
  await until(async () => (await trunk('late')).length === 1, 'the name to be found');
  const late = await answering(new Callee().isCalled('Via: SIP/2.0/UDP').takes().isHungUp().xml('called'), { at: '10.77.0.6', seconds: 20 });
  await passes(calls('1001'));
  await passes(late);
  await forgets();
  await sleep(2500);
  assert.equal((await trunk('late')).length, 1, 'while nobody answers, a name leads where it did');
});

test('RFC 6157 §4: a telephone on IPv6 calls one on IPv4, each is told of its own family', async () => {
  const four = await answering(new Callee().isCalled('c=IN IP4 10.77.0.1', { not: 'IP6' }).takes().isHungUp().xml('called'), { at: '10.77.0.4', seconds: 20 });
  await passes(sipp(new Caller().calls({}, 'c=IN IP6 fd77::1', { not: 'IP4' }).waits(300).hangsUp().xml('calls'), { at: 'fd77::2', target: '[fd77::1]:5060', service: '2006', seconds: 20 }));
  await passes(four);
});

test('RFC 6157 §4: and the other way round', async () => {
  const six = await answering(new Callee().isCalled('INVITE sip:1006@\\[fd77::2\\]', 'c=IN IP6 fd77::1', { not: 'IP4' }).takes().isHungUp().xml('called'), { at: 'fd77::2', target: '[fd77::1]:5060', seconds: 20 });
  await passes(calls('1006'));
  await passes(six);
});

const long = { headers: Array.from({ length: 9 }, (_, i) => `History-Info: <sip:47${i}0@a-rather-long-name-of-a-hospital-department.example.org;cause=302>;index=1.${i}`) };

test('RFC 3261 §18.1.1: a request of more than 1300 bytes goes by TCP, and with it the rest of the call', async () => {
  const c = await called('10.77.0.8', 5060, 'Via: SIP/2.0/TCP', 'index=1.8');
  await passes(calls('1002', long));
  await passes(c);
});

test('RFC 3261 §18.1.1: where there is no TCP it goes by UDP all the same', async () => {
  const c = await answering(new Callee().isCalled('Via: SIP/2.0/UDP', 'index=1.8').takes().isHungUp().xml('called'), { at: '10.77.0.5', seconds: 20 });
  await passes(calls('1003', long));
  await passes(c);
});
