// One call of the matrix of networks.
import assert from 'node:assert/strict';
import { sleep, until } from '../lib/net.mjs';
import { Patient } from '../lib/page.mjs';

let calls = 0;

/** A call between a telephone of the hospital and a patient at home, with a tone both ways. */
export async function callFromHome(t, world, browser, calling) {
  const phone = await world.phone(t);
  const inv = await world.engine.invite('sip:1000@hospital');
  const patient = await Patient.open(t, browser, inv.url);
  try {
    await patient.reach('lobby');
    let met, began;
    if (calling) {
      began = Date.now();
      await patient.join();
      met = await phone.hears('', /^INVITE/);
      phone.answer(met, 200, { tag: 'c', sdp: true });
    } else {
      const answered = phone.call({ id: `cell${process.pid}-${++calls}`, tag: 'c', to: inv.dial_code });
      answered.catch(() => {});
      await patient.page.waitForSelector('#decline:visible');
      began = Date.now();
      await patient.join();
      met = await answered;
    }
    phone.plays(met);
    await until(() => phone.packets > 0, async () => `sound from the patient; the page is ${await patient.state()}; ${await patient.page.innerText('main')}`, 20_000);
    await until(async () => (await patient.receives())?.packetsReceived > 0, 'sound from the telephone', 20_000);
    const ms = Date.now() - began;
    await patient.reach('connected', 20_000);
    await sleep(2000);
    const heard = await patient.hear();
    assert.ok(Math.abs(heard.hz - 1000) <= 6 && heard.db > -20, `the patient hears ${heard.hz} Hz, ${heard.db} dB`);
    const { tone, all } = phone.listens();
    assert.ok(tone > -20 && all - tone < 0.5, `the telephone hears ${tone} dB of tone, ${all} dB in all`);
    const { pair, own, other } = await patient.pair();
    await patient.page.click('#hangup');
    phone.answer(await phone.hears('', /^BYE/), 200);
    await until(async () => (await world.engine.calls()).length === 0, 'the call to be over');
    return { ms, pair: `${kind(own)}-${kind(other)}`, rtt: Math.round(1000 * pair.currentRoundTripTime), far: other.address, told: String(met) };
  } finally {
    await patient.close();
    phone.close();
  }
}

// A relay's address that its other end sees as another one is still a relay's.
const kind = (c) => (c.relayProtocol ? `relay/${c.relayProtocol}` : c.candidateType);
