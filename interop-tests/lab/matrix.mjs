// make lab: every hospital network against every home network, so many calls each.
// Writes docs/networks.md.
import { writeFileSync } from 'node:fs';
import { endAll } from '../lib/net.mjs';
import { callFromHome } from './cell.mjs';
import { launchAtHome } from './lab.mjs';
import { grades, homeFlags, World } from './world.mjs';

const calls = Number(process.env.LAB_CALLS ?? 20), delay = 20;
const rank = (list, share) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(share * list.length))];
const test = { after() {} }; // what a call leaves open it closes itself

const rows = [];
const world = await World.make(delay);
let failed = 0;
try {
  await world.startPortal();
  for (const hospital of Object.keys(grades)) {
    for (const home of Object.keys(grades)) {
      await world.startEngine(hospital);
      world.atHome(home);
      const browser = await launchAtHome(...homeFlags(home));
      const seen = [];
      for (let n = 0; n < calls; n++) {
        try {
          seen.push(await callFromHome(test, world, browser, n % 2 === 0));
        } catch (e) {
          failed++;
          console.error(`${hospital} - ${home}, call ${n + 1}: ${e.message.split('\n')[0]}`);
        }
      }
      await browser.close();
      await world.engine.stop();
      const ms = seen.map((s) => s.ms), pairs = {};
      for (const s of seen) pairs[s.pair] = (pairs[s.pair] ?? 0) + 1;
      const row = { hospital, home, talked: `${seen.length} of ${calls}`, median: rank(ms, 0.5), p95: rank(ms, 0.95),
        added: rank(seen.map((s) => s.rtt), 0.5) - 4 * delay, pairs: Object.entries(pairs).sort((a, b) => b[1] - a[1]).map(([p, n]) => `${p} (${n})`).join(', ') };
      rows.push(row);
      console.log(Object.values(row).join(' | '));
    }
  }
} finally {
  await endAll();
  world.drop();
}
writeFileSync(new URL('../../docs/networks.md', import.meta.url), `# Which networks a call gets through

Made by \`make lab\`. Portal and engine stand apart: the engine in a hospital whose firewall lets nothing in, the patient
(Chromium) at home behind a router, each in a network namespace, each ${2 * delay} ms from the portal and back. Every second call
is the patient's, the others are the hospital's. A call counts when a 1 kHz tone arrives both ways, undisturbed.

- cone: a NAT that keeps the port and lets in who was spoken to. symmetric: another port for each peer. no UDP: symmetric, and
  TCP alone goes out. proxy: nothing goes out but by an HTTP proxy to port 443; the hospital's wants a password and alone knows
  the portal's name.
- From Join, with the microphone allowed, to the first sound both ways. The way is the page's candidate, and the engine's
  as the page sees it; the relay is the portal's. Added: the round trip through the chosen pair, less the ${4 * delay} ms of the lines.

| hospital | home | talked | to sound, median, ms | 95th | added round trip, ms | way (calls) |
| --- | --- | --- | --- | --- | --- | --- |
${rows.map((r) => `| ${Object.values(r).join(' | ')} |`).join('\n')}
`);
process.exit(failed ? 1 : 0);
