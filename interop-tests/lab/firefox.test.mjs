// Patients with Firefox whose network is closed.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { makeHospital, dropHospital, endAll, sleep, until } from '../lib/net.mjs';
import { trusting } from '../lib/certificates.mjs';
import { Gateway } from '../lib/gateway.mjs';
import { Raw } from '../lib/raw.mjs';
import { closedGateway, home as space, makeHome, dropHome, lets, nearEnd, nearName, Servant, startProxy, withHosts } from './lab.mjs';

const homes = [
  { name: 'lets no UDP out', out: ['meta l4proto tcp accept'] },
  { name: 'lets out only TCP that is no STUN', out: ['@ih,32,32 0x2112a442 drop', '@ih,48,32 0x2112a442 drop', 'meta l4proto tcp accept'] },
  { name: 'lets only an HTTP proxy be reached', out: ['tcp dport 13128 accept'], proxy: `${nearEnd}:13128` },
];

let gateway;

before(async () => {
  makeHospital();
  await makeHome();
  gateway = await new Gateway(closedGateway(nearName)).start();
  await startProxy();
});

after(async () => {
  await endAll();
  dropHome();
  dropHospital();
});

for (const home of homes) {
  test(`a patient with Firefox calls and is called, in a home that ${home.name}`, async (t) => {
    lets(...home.out);
    t.after(() => lets());
    const [command, ...args] = withHosts('ip', 'netns', 'exec', space, process.execPath, new URL('firefox.mjs', import.meta.url).pathname, trusting('ca'), ...(home.proxy ? [home.proxy] : []));
    const browser = new Servant(command, args);
    const ask = async (what, more) => {
      const { answer, error } = await browser.ask({ do: what, ...more });
      assert.equal(error, undefined, `${what}: ${error}`);
      return answer;
    };
    t.after(() => browser.ask({ do: 'end' }).catch(() => {}));
    await browser.ready;
    for (const calling of [true, false]) {
      const phone = await Raw.open(t, 15099);
      const inv = await gateway.invite('sip:1000@hospital');
      await ask('open', { url: inv.url });
      let met;
      const began = Date.now();
      if (calling) {
        await ask('join');
        met = await phone.hears('', /^INVITE/);
        phone.answer(met, 200, { tag: 'c', sdp: true });
      } else {
        const answered = phone.call({ id: `fire${home.name.length}`, tag: 'c', to: inv.dial_code });
        await ask('rung');
        await ask('join');
        met = await answered;
      }
      phone.plays(met);
      await until(() => phone.packets > 0, 'sound from the patient', 20_000);
      t.diagnostic(`${calling ? 'a patient calls' : 'a patient is called'}: ${Date.now() - began} ms to the first sound`);
      await ask('reach', { state: 'connected' });
      await sleep(2000);
      const heard = await ask('hears');
      assert.ok(heard.packets > 40 && heard.energy > 0, JSON.stringify(heard));
      const way = await ask('way');
      t.diagnostic(`by ${JSON.stringify(way)}`);
      assert.ok(way.candidateType === 'relay' || way.protocol === 'tcp', JSON.stringify(way));
      await ask('hangup');
      phone.answer(await phone.hears('', /^BYE/), 200);
      await until(async () => (await gateway.calls()).length === 0, 'the call to be over');
      phone.close();
    }
  });
}
