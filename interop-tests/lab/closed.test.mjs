// Patients whose network is closed: Chromium in a home whose firewall lets little
// out, towards the gateway's one TCP port and its UDP ports.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { makeHospital, dropHospital, endAll, sleep, until } from '../lib/net.mjs';
import { Gateway } from '../lib/gateway.mjs';
import { Patient } from '../lib/page.mjs';
import { Raw } from '../lib/raw.mjs';
import { closedGateway, coturnURL, edgePort, external, launchAtHome, makeHome, dropHome, lets, nearEnd, startCoturn, startProxy } from './lab.mjs';

const coturn = { port: 15349, udp: 13479, ports: '25000-25099' };
const homes = [
  { name: 'lets all out', out: [] },
  { name: 'lets no UDP out', out: ['meta l4proto tcp accept'], by: 'either' }, // the relay, or straight to the gateway's TCP port: whichever is first
  { name: 'lets out only TCP that is no STUN', out: ['@ih,32,32 0x2112a442 drop', '@ih,48,32 0x2112a442 drop', 'meta l4proto tcp accept'], by: 'relay' },
  { name: 'lets only an HTTP proxy be reached', out: ['tcp dport 13128 accept'], by: 'either', proxy: true },
  { name: 'lets no UDP out, to a gateway without a relay', out: ['meta l4proto tcp accept'], by: 'tcp', set: (c) => c.replace(/^turn: .*$/m, '') },
  { name: 'lets out only TCP that is no STUN, to a gateway with a coturn for a relay', out: ['@ih,32,32 0x2112a442 drop', '@ih,48,32 0x2112a442 drop', 'meta l4proto tcp accept'], by: 'relay',
    at: coturnURL(coturn), beside: () => startCoturn(coturn), set: (c) => c.replace(/^turn: .*$/m, external(coturn)) },
  { name: 'lets all out, to a gateway that is only found (ICE lite)', out: [], set: (c) => c.replace('webrtc_port: 18443', 'webrtc_port: 18443, ice: lite') },
];

let gateway;

before(async () => {
  makeHospital();
  await makeHome();
  gateway = await new Gateway(closedGateway()).start();
  await startProxy();
});

after(async () => {
  await endAll();
  dropHome();
  dropHospital();
});

for (const home of homes) {
  if (home.set) {
    test('the gateway is started anew', async () => {
      await gateway.stop();
      const text = home.set(closedGateway());
      await home.beside?.();
      gateway = await new Gateway(text).start();
    });
  }

  if (!home.set) test(`the page says which ways lead out of a home that ${home.name}`, async (t) => {
    lets(...home.out);
    t.after(() => lets());
    const browser = await launchAtHome(...(home.proxy ? [`--proxy-server=http://${nearEnd}:13128`] : []));
    t.after(() => browser.close());
    const patient = await Patient.open(t, browser, (await gateway.invite('sip:1000@hospital')).url);
    await patient.reach('lobby');
    await patient.page.click('#check:enabled');
    await patient.page.waitForSelector('[data-verdict]', { timeout: 30_000 });
    const ways = await patient.page.$$eval('#checked li', (all) => Object.fromEntries(all.map((l) => [l.dataset.way, l.dataset.ok])));
    assert.deepEqual(ways, { socket: 'true', udp: home.by ? 'false' : 'true', tls: 'true' });
    assert.equal(await patient.page.getAttribute('[data-verdict]', 'data-verdict'), home.by ? 'tcp' : 'good');
    assert.equal(await patient.page.isVisible('#ask'), Boolean(home.by));
    if (home.by) assert.match(await patient.page.textContent('#request'), new RegExp(`${nearEnd}: TCP port ${edgePort} .*UDP port 13478`));
    t.diagnostic(await patient.page.innerText('#checked'));
  });

  for (const calling of ['a patient calls', 'a patient is called']) {
    test(`${calling} from a home that ${home.name}`, async (t) => {
      lets(...home.out);
      t.after(() => lets());
      const browser = await launchAtHome(...(home.proxy ? [`--proxy-server=http://${nearEnd}:13128`] : []));
      t.after(() => browser.close());
      const phone = await Raw.open(t, 15099);
      const inv = await gateway.invite('sip:1000@hospital');
      const patient = await Patient.open(t, browser, inv.url);
      await patient.reach('lobby');
      const id = `closed${home.name.length}${calling.length}`;
      const dialog = { id, tag: 'c', to: inv.dial_code };
      let met, began;
      if (calling === 'a patient calls') {
        began = Date.now();
        await patient.join();
        met = await phone.hears('', /^INVITE/);
        phone.answer(met, 200, { tag: 'c', sdp: true });
      } else {
        const answered = phone.call(dialog);
        await patient.page.waitForSelector('#decline:visible');
        began = Date.now();
        await patient.join();
        met = await answered;
      }
      phone.plays(met);
      await patient.reach('connected', 20_000);
      await until(() => phone.packets > 0, 'sound from the patient');
      t.diagnostic(`from Join to the first sound: ${Date.now() - began} ms`);
      await sleep(2500);
      const heard = await patient.hear();
      assert.ok(Math.abs(heard.hz - 1000) <= 6 && heard.db > -20, `the patient hears ${heard.hz} Hz, ${heard.db} dB`);
      const { tone: strength, all } = phone.listens();
      assert.ok(strength > -20 && all - strength < 0.5, `the telephone hears ${strength} dB of tone, ${all} dB in all`);
      const way = await patient.way();
      t.diagnostic(`by ${way.candidateType} ${way.relayProtocol ?? way.protocol}`);
      const by = way.candidateType === 'relay' ? `relay ${way.relayProtocol}` : way.protocol;
      assert.ok({ tcp: ['tcp'], relay: ['relay tls'], either: ['relay tls', 'tcp'] }[home.by ?? 'udp']?.includes(by) ?? by === 'udp', JSON.stringify(way));
      if (home.at) assert.equal(way.url, home.at);
      await patient.page.click('#hangup');
      const bye = await phone.hears('', /^BYE/);
      phone.answer(bye, 200);
      await until(async () => (await gateway.calls()).length === 0, 'the call to be over');
    });
  }
}
