// A telephone of single messages, for what no telephone could be made to say: it
// answers nothing by itself and hears everything.
import dgram from 'node:dgram';
import { until } from './net.mjs';

const sound = (port) => `v=0\r\no=raw 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio ${port} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n`;

/** 20 ms of 1 kHz in G.711 mu-law, a third of full scale. */
const tone = Buffer.from(Array.from({ length: 160 }, (_, n) => {
  const x = Math.round(10923 * Math.sin(2 * Math.PI * n / 8));
  const biased = Math.min(Math.abs(x) + 132, 32635);
  const exponent = Math.floor(Math.log2(biased)) - 7;
  return ~((x < 0 ? 0x80 : 0) | exponent << 4 | (biased >> (exponent + 3)) & 15) & 0xff;
}));

export class Raw {
  heard = [];
  branches = 0;

  /** Opens a telephone on 127.0.0.1, and a socket for its sound. */
  static async open(t, port) {
    const raw = new Raw();
    raw.port = port;
    raw.socket = dgram.createSocket('udp4');
    raw.socket.on('message', (m) => raw.heard.push(String(m)));
    raw.rtp = dgram.createSocket('udp4');
    raw.packets = raw.events = 0;
    raw.rtp.on('message', (m) => { raw.packets += 1; raw.events += (m[1] & 0x7f) === 101 ? 1 : 0; });
    await new Promise((r) => raw.socket.bind(port, '127.0.0.1', r));
    await new Promise((r) => raw.rtp.bind(0, '127.0.0.1', r));
    t.after(() => { clearInterval(raw.playing); raw.socket.close(); raw.rtp.close(); });
    return raw;
  }

  put(lines, body = '') {
    const text = [...lines, `Content-Length: ${body.length}`, '', body].join('\r\n');
    this.socket.send(text, 15060, '127.0.0.1');
  }

  /** Sends a request in a dialog { id, tag, remote, to, cseq }. */
  request(method, dialog, { headers = [], body = '' } = {}) {
    if (method !== 'ACK') {
      dialog.cseq = (dialog.cseq ?? 0) + 1;
      dialog.branch = this.branches++;
    } else if (dialog.remote) {
      dialog.branch = this.branches++; // of a 2xx: a transaction of its own
    }
    dialog.contact ??= `sip:${dialog.to}@127.0.0.1:15060`;
    this.put([`${method} ${dialog.contact} SIP/2.0`, `Via: SIP/2.0/UDP 127.0.0.1:${this.port};branch=z9hG4bKraw${dialog.id}-${dialog.branch}`,
      `From: <sip:raw@127.0.0.1>;tag=${dialog.tag}`, `To: <sip:${dialog.to}@127.0.0.1>${dialog.remote ? `;tag=${dialog.remote}` : ''}`,
      `Call-ID: ${dialog.id}`, `CSeq: ${dialog.cseq} ${method}`, 'Max-Forwards: 70', `Contact: <sip:raw@127.0.0.1:${this.port}>`, ...headers,
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

  /** Calls, is answered, and acknowledges. */
  async call(dialog, headers = []) {
    this.request('INVITE', dialog, { headers, body: sound(this.rtp.address().port) });
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
  answer(message, status, { tag, sdp = false, headers = [] } = {}) {
    const keep = (name) => message.match(new RegExp(`^${name}: .*$`, 'mi'))[0].trim();
    this.put([`SIP/2.0 ${status} Whatever`, keep('Via'), keep('From'), keep('To') + (tag ? `;tag=${tag}` : ''), keep('Call-ID'), keep('CSeq'),
      `Contact: <sip:raw@127.0.0.1:${this.port}>`, ...headers, ...(sdp ? ['Content-Type: application/sdp'] : [])], sdp ? sound(this.rtp.address().port) : '');
  }

  /** Hangs up. */
  async bye(dialog) {
    this.request('BYE', dialog);
    await this.hears(dialog.id, /^SIP\/2\.0 200[^]*CSeq: \d+ BYE/);
  }

  /** Plays a tone where the description of a message says, until the test ends. */
  plays(message) {
    clearInterval(this.playing);
    let seq = 0;
    const began = Date.now();
    this.playing = setInterval(() => { while (seq * 20 < Date.now() - began) this.say(message, seq++, tone); }, 10);
  }

  /** Sends a packet of sound where the description of a message says. */
  say(message, seq, sound = Buffer.alloc(160, 0xff)) {
    const packet = Buffer.concat([Buffer.alloc(12), sound]);
    packet.writeUInt16BE(0x8000, 0);
    packet.writeUInt16BE(seq & 0xffff, 2);
    packet.writeUInt32BE(seq * 160, 4);
    packet.writeUInt32BE(0x5eed, 8);
    this.rtp.send(packet, Number(message.match(/^m=audio (\d+)/m)[1]), '127.0.0.1');
  }
}
