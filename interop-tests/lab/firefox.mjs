// Runs inside the patient's home: a Firefox that does what it is told, one JSON object a
// line, and answers each with one.
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { launch, open } from '../lib/firefox.mjs';

const [home, proxy] = process.argv.slice(2); // home: whose keys it trusts
const profile = join(home, 'profile');
cpSync(join(home, '.pki/nssdb'), profile, { recursive: true });
const endings = [];
const browser = await launch({ userDataDir: profile }, proxy ? { 'network.proxy.type': 1, 'network.proxy.ssl': proxy.split(':')[0], 'network.proxy.ssl_port': Number(proxy.split(':')[1]) } : {});
let patient;
const deeds = {
  open: async ({ url }) => { patient = await open({ after: (f) => endings.push(f) }, browser, url); await patient.reach('lobby'); await patient.page.waitForSelector('#join:enabled'); },
  rung: async () => { await patient.page.waitForSelector('#decline:not([hidden])'); },
  join: () => patient.page.click('#join'),
  reach: ({ state }) => patient.reach(state),
  hears: () => patient.hears(),
  way: () => patient.page.evaluate(async () => {
    const all = [...(await window.pc.getStats()).values()];
    const pair = all.find((s) => s.type === 'candidate-pair' && s.nominated && s.state === 'succeeded' && s.selected !== false);
    const { candidateType, protocol, relayProtocol } = all.find((s) => s.id === pair?.localCandidateId) ?? {};
    return { candidateType, protocol, relayProtocol };
  }),
  hangup: () => patient.page.click('#hangup'),
  end: async () => { for (const f of endings) await f(); await browser.close(); },
};
console.log('{}');
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  try {
    console.log(JSON.stringify({ answer: await deeds[order.do](order) }));
  } catch (e) {
    console.log(JSON.stringify({ error: String(e) }));
  }
  if (order.do === 'end') process.exit();
}
