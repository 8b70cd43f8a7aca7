// A telephone of single messages, for what no telephone could be made to say: it
// answers nothing by itself and hears everything.
import dgram from 'node:dgram';
import { createHash } from 'node:crypto';
import { until } from './net.mjs';

const sound = (host, port, { profile = 'RTP/AVP', events = true, more = '' } = {}) => `v=0\r\no=raw 1 1 IN IP4 ${host}\r\ns=-\r\nc=IN IP4 ${host}\r\nt=0 0\r\nm=audio ${port} ${profile} 0${events ? ' 101\r\na=rtpmap:101 telephone-event/8000' : ''}\r\n${more}`;

/** So many ms of 1 kHz in G.711 mu-law, a third of full scale. */
const tone = (ms) => Buffer.from(Array.from({ length: 8 * ms }, (_, n) => {
  const x = Math.round(10923 * Math.sin(2 * Math.PI * n / 8));
  const biased = Math.min(Math.abs(x) + 132, 32635);
  const exponent = Math.floor(Math.log2(biased)) - 7;
  return ~((x < 0 ? 0x80 : 0) | exponent << 4 | (biased >> (exponent + 3)) & 15) & 0xff;
}));

export class Raw {
  heard = [];
  branches = 0;

  /** Opens a telephone on 127.0.0.1, or another address, and a socket for its sound; gateway is where its calls go. */
  static async open(t, port, { host = '127.0.0.1', name = 'raw', gateway = '127.0.0.1:15060' } = {}) {
    const raw = new Raw();
    const [to, at] = gateway.split(':');
    Object.assign(raw, { port, host, name, gateway, to, at: Number(at) });
    raw.socket = dgram.createSocket('udp4');
    raw.socket.on('message', (m) => raw.heard.push(String(m)));
    raw.rtp = dgram.createSocket('udp4');
    raw.packets = raw.events = 0;
    raw.sound = []; // the last second of what it hears
    raw.rtp.on('message', (m) => { raw.sound = [...raw.sound.slice(-49), m.subarray(12)]; raw.packets += 1; raw.events += (m[1] & 0x7f) === 101 ? 1 : 0; });
    await new Promise((r) => raw.socket.bind(port, host, r));
    await new Promise((r) => raw.rtp.bind(0, to === '127.0.0.1' ? to : host, r));
    t.after(() => raw.close());
    return raw;
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    clearInterval(this.playing);
    this.socket.close();
    this.rtp.close();
  }

  put(lines, body = '') {
    const text = [...lines, `Content-Length: ${body.length}`, '', body].join('\r\n');
    this.socket.send(text, this.at, this.to);
  }

  /** Sends a request in a dialog { id, tag, remote, to, cseq }. */
  request(method, dialog, { headers = [], body = '' } = {}) {
    if (method !== 'ACK') {
      dialog.cseq = (dialog.cseq ?? 0) + 1;
      dialog.branch = this.branches++;
    } else if (dialog.remote) {
      dialog.branch = this.branches++; // of a 2xx: a transaction of its own
    }
    dialog.contact ??= `sip:${dialog.to}@${this.gateway}`;
    this.put([`${method} ${dialog.contact} SIP/2.0`, `Via: SIP/2.0/UDP ${this.host}:${this.port};branch=z9hG4bKraw${dialog.id}-${dialog.branch}`,
      `From: <sip:${this.name}@127.0.0.1>;tag=${dialog.tag}`, `To: <sip:${dialog.to}@127.0.0.1>${dialog.remote ? `;tag=${dialog.remote}` : ''}`,
      `Call-ID: ${dialog.id}`, `CSeq: ${dialog.cseq} ${method}`, 'Max-Forwards: 70', ...(headers.some((h) => h.startsWith('Contact:')) ? [] : [`Contact: <sip:${this.name}@${this.host}:${this.port}>`]), ...headers,
      ...(body ? ['Content-Type: application/sdp'] : [])], body);
  }

  /** Waits for the first message of a dialog that matches, and takes it out. */
  async hears(id, pattern, ms = 8000) {
    let found;
    await until(() => {
      const n = this.heard.findIndex((m) => (!id || new RegExp(`^Call-ID: *${id}\\r$`, 'mi').test(m)) && pattern.test(m));
      if (n >= 0) [found] = this.heard.splice(n, 1);
      return found;
    }, () => `${pattern}; heard: ${this.heard.join('\n\n')}`, ms);
    return found;
  }

  /** The credentials that answer a challenge (RFC 7616 §3.4). */
  credentials(challenge, method, uri, password, { user = this.name, algorithm = 'SHA-256', nc = 1 } = {}) {
    const line = challenge.match(new RegExp(`^WWW-Authenticate: (.*algorithm=${algorithm}(?:,.*)?)$`, 'mi'))[1];
    const [realm, nonce] = ['realm', 'nonce'].map((p) => line.match(new RegExp(`${p}="([^"]+)"`))[1]);
    const h = (s) => createHash({ 'SHA-256': 'sha256', MD5: 'md5' }[algorithm]).update(s).digest('hex');
    const count = String(nc).padStart(8, '0');
    const response = h(`${h(`${user}:${realm}:${password}`)}:${nonce}:${count}:c0ffee:auth:${h(`${method}:${uri}`)}`);
    return `Authorization: Digest username="${user}", realm="${realm}", nonce="${nonce}", uri="${uri}", response="${response}", algorithm=${algorithm}, qop=auth, nc=${count}, cnonce="c0ffee"`;
  }

  /** Sends a request, proves who it is if it is asked to, and returns the final response. */
  async proves(method, dialog, password, { headers = [], body = '', ...how } = {}) {
    const done = new RegExp(`^SIP/2\\.0 [2-6][^]*CSeq: \\d+ ${method}`);
    this.request(method, dialog, { headers, body });
    const first = await this.hears(dialog.id, done);
    if (method === 'INVITE') this.request('ACK', dialog);
    if (!first.startsWith('SIP/2.0 401')) return first;
    this.challenge = first;
    this.request(method, dialog, { body, headers: [...headers, this.credentials(first, method, dialog.contact, password, how)] });
    return this.hears(dialog.id, done);
  }

  /** Calls, is answered, and acknowledges. */
  async call(dialog, headers = []) {
    this.request('INVITE', dialog, { headers, body: this.#sound() });
    const ok = await this.hears(dialog.id, /^SIP\/2\.0 200/);
    this.confirm(dialog, ok);
    this.request('ACK', dialog);
    return ok;
  }

  confirm(dialog, message) {
    dialog.remote = message.match(/^To: .*tag=(\S+)/mi)[1];
    dialog.contact = message.match(/^Contact: <([^>]+)>/mi)[1];
  }

  /** Answers a request with the headers it came with. */
  answer(message, status, { tag, sdp = false, headers = [], ...described } = {}) {
    const keep = (name) => message.match(new RegExp(`^${name}: .*$`, 'mi'))[0].trim();
    this.put([`SIP/2.0 ${status} Whatever`, keep('Via'), keep('From'), keep('To') + (tag ? `;tag=${tag}` : ''), keep('Call-ID'), keep('CSeq'),
      ...(headers.some((h) => h.startsWith('Contact:')) ? [] : [`Contact: <sip:${this.name}@${this.host}:${this.port}>`]), ...headers, ...(sdp ? ['Content-Type: application/sdp'] : [])], sdp ? this.#sound(described) : '');
  }

  #sound(described) {
    const { address, port } = this.rtp.address();
    return sound(address, port, described);
  }

  /** Hangs up. */
  async bye(dialog) {
    this.request('BYE', dialog);
    await this.hears(dialog.id, /^SIP\/2\.0 200[^]*CSeq: \d+ BYE/);
  }

  /** Plays a tone where the description of a message says, until the test ends, in packets of so many ms. */
  plays(message, ms = 20) {
    clearInterval(this.playing);
    const packet = tone(ms);
    let seq = 0;
    const began = Date.now();
    this.playing = setInterval(() => { while (seq * ms < Date.now() - began) this.say(message, seq++, packet); }, 10);
  }

  /** What it hears: the strength of 1 kHz, and of all, in dB of full scale. */
  listens() {
    const x = Buffer.concat(this.sound).map((b) => ~b & 0xff);
    const linear = [...x].map((b) => (b & 0x80 ? -1 : 1) * (((((b & 15) << 3) + 132) << (b >> 4 & 7)) - 132) / 32768);
    const sum = linear.reduce((s, v, n) => [s[0] + v * Math.cos(Math.PI * n / 4), s[1] + v * Math.sin(Math.PI * n / 4)], [0, 0]);
    const db = (power) => 10 * Math.log10(power || 1e-12);
    return { tone: db(2 * (sum[0] ** 2 + sum[1] ** 2) / linear.length ** 2), all: db(linear.reduce((s, v) => s + v * v, 0) / linear.length) };
  }

  /** Sends a packet of sound where the description of a message says. */
  say(message, seq, sound = Buffer.alloc(160, 0xff)) {
    const packet = Buffer.concat([Buffer.alloc(12), sound]);
    packet.writeUInt16BE(0x8000, 0);
    packet.writeUInt16BE(seq & 0xffff, 2);
    packet.writeUInt32BE(seq * sound.length, 4);
    packet.writeUInt32BE(0x5eed, 8);
    this.rtp.send(packet, Number(message.match(/^m=audio (\d+)/m)[1]), this.to);
  }
}
