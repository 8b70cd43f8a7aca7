// A telephone: baresip, whose microphone plays a tone and whose loudspeaker is a
// WAV file, driven over its control socket.
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inHospital, until } from './net.mjs';
import { tone } from './page.mjs';
import net from 'node:net';

const codecs = { PCMU: ['g711', 'PCMU/8000/1', 8000], PCMA: ['g711', 'PCMA/8000/1', 8000], G722: ['g722', 'G722/16000/1', 16000] };

export class Telephone {
  /** source is the WAV that its microphone plays: a tone, if none is given. mode manual: somebody must accept. secret is how it keeps its sound so. With a registrar and a password it registers. */
  constructor(number, codec, source, mode = 'auto', secret = '', { registrar, password } = {}) {
    this.number = number;
    this.events = [];
    const [module, name, rate] = codecs[codec];
    this.rate = rate;
    this.dir = mkdtempSync(join(tmpdir(), 'sipbridge-baresip-'));
    this.heard = join(this.dir, 'heard');
    mkdirSync(this.heard);
    writeFileSync(join(this.dir, 'config'), `
sip_listen 10.77.0.3:5060
audio_source aufile,${source ?? tone(rate)}
audio_player aubridge,nil
audio_alert aubridge,nil
audio_channels 1-1
rtp_ports 40000-40100
jitter_buffer_delay 1-5
module_path /usr/lib/baresip/modules
module stdio.so
module ${module}.so
module aufile.so
module aubridge.so
module sndfile.so
${secret ? 'module srtp.so\nmodule dtls_srtp.so\n' : ''}module_app account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 10.77.0.3:4444
snd_path ${this.heard}
`);
    writeFileSync(join(this.dir, 'accounts'), `<sip:${number}@${registrar ?? '10.77.0.3'}>;${registrar ? `auth_pass=${password};regint=60` : 'regint=0'};answermode=${mode};audio_codecs=${name.replace('16000', '8000')};dtmfmode=rtpevent${secret ? `;mediaenc=${secret}` : ''}\n`);
    writeFileSync(join(this.dir, 'contacts'), '');
  }

  async start(t) {
    t.after(() => this.stop());
    this.child = inHospital('baresip', ['-f', this.dir]);
    // The control socket is in the hospital too: a relay of bytes reaches it.
    await until(() => this.child.output.includes('ctrl_tcp') || this.child.output.includes('baresip is ready'), () => `baresip: ${this.child.output}`);
    await until(() => this.connect(), () => `baresip's control socket: ${this.child.output}`);
    return this;
  }

  connect() {
    return new Promise((resolve) => {
      const s = net.connect({ host: '10.77.0.3', port: 4444 }, () => { this.socket = s; resolve(true); });
      s.on('error', () => resolve(false));
      let buffer = '';
      s.on('data', (d) => {
        buffer += d;
        for (;;) { // netstrings: LENGTH:JSON,
          const colon = buffer.indexOf(':');
          if (colon < 0) break;
          const n = Number(buffer.slice(0, colon));
          if (buffer.length < colon + n + 2) break;
          this.events.push({ at: Date.now(), ...JSON.parse(buffer.slice(colon + 1, colon + 1 + n)) });
          buffer = buffer.slice(colon + n + 2);
        }
      });
    });
  }

  command(command, params = '') {
    const b = JSON.stringify({ command, params, token: 'x' });
    this.socket.write(`${b.length}:${b},`);
  }

  saw(type) {
    return this.events.filter((e) => e.event && e.type === type);
  }

  /** The keys pressed at the far end. */
  digits() {
    return this.saw('CALL_DTMF_START').map((e) => e.param).join('');
  }

  /** All that came out of the loudspeaker so far. */
  samples() {
    return samples(this.recording());
  }

  /** What came out of the loudspeaker: frequency, level, and noise beside it, of a second of it. */
  listen() {
    return measure(this.recording());
  }

  recording() {
    const files = readdirSync(this.heard).filter((n) => n.endsWith('-dec.wav')).map((n) => join(this.heard, n));
    const f = files.sort((a, b) => statSync(a).mtimeMs - statSync(b).mtimeMs).pop();
    if (!f) throw new Error(`baresip recorded nothing: ${this.child.output}`);
    return f;
  }

  async stop() {
    this.socket?.destroy();
    this.child?.end('SIGTERM');
    const late = setTimeout(() => this.child?.end(), 3000);
    await this.child?.over;
    clearTimeout(late);
  }
}

/** The samples of a recording that may still be growing: its header is not to be trusted. */
function samples(file) {
  const b = readFileSync(file);
  return new Int16Array(b.buffer.slice(b.byteOffset + 44, b.byteOffset + b.length - (b.length & 1)));
}

/** Fits a 1 kHz sine to the end of a recording. */
export function measure(file) {
  const rate = readFileSync(file).readUInt32LE(24);
  const all = samples(file);
  const x = all.slice(-rate * 1.2, -rate * 0.2);
  let power = 0;
  for (const v of x) power += v * v;
  power /= x.length || 1;
  let best = { hz: 0, p: 0 };
  for (let hz = 990; hz <= 1010; hz += 1) {
    let re = 0, im = 0;
    for (let i = 0; i < x.length; i++) {
      re += x[i] * Math.cos(2 * Math.PI * hz * i / rate);
      im += x[i] * Math.sin(2 * Math.PI * hz * i / rate);
    }
    const p = 2 * (re * re + im * im) / x.length / x.length;
    if (p > best.p) best = { hz, p };
  }
  return { hz: best.hz, db: 10 * Math.log10(power / 32768 / 32768 + 1e-12), snr: 10 * Math.log10(best.p / Math.max(power - best.p, 1e-3)), samples: all.length };
}
