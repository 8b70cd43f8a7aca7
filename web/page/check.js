// Looks, before a call, which ways lead from this network to the service.

/** How long one step may take, in ms, and how long each direction is filled. */
const within = 6000, filled = 1200;
const chunk = new Uint8Array(16384), most = 4 << 20;

/** The least a call needs each way, in kbit/s: with a picture in comfort, with one at all. */
export const thin = 330, soundAlone = 180;

/** @template T @param {Promise<T>} p @param {number} [ms] @returns {Promise<T>} */
const soon = (p, ms = within) => Promise.race([p, new Promise((_, no) => setTimeout(() => no(new Error('nothing comes back')), ms))]);

/** The WebSocket for measurements (docs/signalling.md). */
class Meter {
  constructor() {
    this.ws = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/probe`);
    /** @type {((s: string) => void)[]} */ this.asked = [];
    this.ws.onmessage = (e) => { if (typeof e.data === 'string') this.asked.shift()?.(e.data); };
  }

  open() {
    return soon(new Promise((yes, no) => { this.ws.onopen = yes; this.ws.onerror = no; }));
  }

  /** @param {string} s @returns {Promise<string>} */
  ask(s) {
    const answer = new Promise((yes) => { this.asked.push(yes); });
    this.ws.send(s);
    return soon(/** @type {Promise<string>} */ (answer));
  }

  async trip() {
    let best = Infinity;
    for (let n = 0; n < 3; n++) {
      const began = performance.now();
      await this.ask('ping');
      best = Math.min(best, performance.now() - began);
    }
    return best;
  }

  async up() {
    const began = performance.now();
    let sent = 0;
    while (performance.now() - began < filled && sent < most) {
      if (this.ws.bufferedAmount > 4 * chunk.length) {
        await new Promise((r) => setTimeout(r, 5));
        continue;
      }
      this.ws.send(chunk);
      sent += chunk.length;
    }
    await this.ask('sum');
    return kbit(sent, performance.now() - began);
  }

  async down() {
    for (let want = 2 * chunk.length; ; want *= 4) {
      const began = performance.now();
      await this.ask(`give:${want}`);
      const took = performance.now() - began;
      if (took > filled / 3 || want >= most / 2) return kbit(want, took);
    }
  }
}

/** @param {number} bytes @param {number} ms */
const kbit = (bytes, ms) => 8 * bytes / Math.max(ms, 1);

/** A connection to itself that goes by one relay alone, with a channel that loses what is lost.
 * @param {RTCIceServer} server */
async function loop(server) {
  const config = /** @type {RTCConfiguration} */ ({ iceServers: [server], iceTransportPolicy: 'relay' });
  const a = new RTCPeerConnection(config), b = new RTCPeerConnection(config);
  const close = () => { a.close(); b.close(); };
  try {
    for (const [x, y] of [[a, b], [b, a]]) x.onicecandidate = (e) => { if (e.candidate) y.addIceCandidate(e.candidate).catch(() => {}); };
    const channel = a.createDataChannel('check', { ordered: false, maxRetransmits: 0 });
    b.ondatachannel = (e) => { e.channel.onmessage = (m) => e.channel.send(m.data); };
    await a.setLocalDescription(await a.createOffer());
    await b.setRemoteDescription(/** @type {RTCSessionDescription} */ (a.localDescription));
    await b.setLocalDescription(await b.createAnswer());
    await a.setRemoteDescription(/** @type {RTCSessionDescription} */ (b.localDescription));
    await soon(new Promise((yes) => { channel.onopen = yes; }));
    return { channel, close };
  } catch (e) {
    close();
    throw e;
  }
}

/** Whether a relay is reached, what is lost on the way there and back, and how long that takes.
 * @param {RTCIceServer} server */
async function relayed(server) {
  const { channel, close } = await loop(server);
  const asked = 50;
  /** @type {number[]} */ const trips = [];
  channel.onmessage = (m) => { trips.push(performance.now() - Number(m.data)); };
  for (let n = 0; n < asked; n++) {
    channel.send(String(performance.now()));
    await new Promise((r) => setTimeout(r, 20));
  }
  await new Promise((r) => setTimeout(r, 500));
  close();
  trips.sort((x, y) => x - y);
  return { ms: trips[Math.floor(trips.length / 2)] ?? 0, lost: 1 - trips.length / asked };
}

/** @typedef {{ way: 'socket' | 'udp' | 'tls', ok: boolean, ms?: number, lost?: number, up?: number, down?: number }} Finding */

/** Looks at every way; tell hears of each as it is found.
 * @param {RTCIceServer[]} relays @param {(f: Finding) => void} tell @returns {Promise<Finding[]>} */
export async function check(relays, tell) {
  /** @type {Finding[]} */ const all = [];
  /** @param {Finding['way']} way @param {() => Promise<object>} look */
  const find = async (way, look) => {
    /** @type {Finding} */ let f;
    try {
      f = { way, ok: true, ...await look() };
    } catch {
      f = { way, ok: false };
    }
    all.push(f);
    tell(f);
  };
  await find('socket', async () => {
    const meter = new Meter();
    try {
      await meter.open();
      return { ms: await meter.trip(), up: await meter.up(), down: await meter.down() };
    } finally {
      meter.ws.close();
    }
  });
  const urls = relays.flatMap((r) => [r.urls].flat().map((url) => ({ ...r, urls: url }))).filter((r) => r.urls.startsWith('turn'));
  for (const [way, belongs] of /** @type {[Finding['way'], (u: string) => boolean][]} */ ([['udp', (u) => /transport=udp/.test(u)], ['tls', (u) => !/transport=udp/.test(u)]])) {
    const server = urls.find((r) => belongs(r.urls));
    if (server) await find(way, () => relayed(server));
  }
  return all;
}

/** What the findings come to: a word for it.
 * @param {Finding[]} all */
export function verdict(all) {
  const of = (/** @type {string} */ way) => all.find((f) => f.way === way);
  const socket = of('socket'), udp = of('udp'), tls = of('tls');
  if (!socket?.ok || udp && tls && !udp.ok && !tls.ok) return 'none';
  const least = Math.min(socket.up ?? 0, socket.down ?? 0);
  if (least < soundAlone) return 'soundAlone';
  if (least < thin) return 'thin';
  if (udp && !udp.ok) return 'tcp';
  return 'good';
}
