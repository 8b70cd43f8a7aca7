// A telephone: Linphone, whose microphone plays a tone and whose loudspeaker is a WAV
// file, driven over its standard input.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inHospital, ns, until } from './net.mjs';
import { measure } from './baresip.mjs';
import { tone } from './page.mjs';

/** Where the PBX finds it: beside the PBX's own port, for it listens on every address. */
const port = 5062;

export class Linphone {
  /** It has one encoding. With a registrar's address and a password it registers there. */
  constructor(number, codec, { registrar, password } = {}) {
    Object.assign(this, { number, codec, registrar, password });
    this.dir = mkdtempSync(join(tmpdir(), 'sipbridge-linphone-'));
    this.heard = join(this.dir, 'heard.wav');
    mkdirSync(join(this.dir, '.local/share/linphone'), { recursive: true }); // without a place for its database it never starts
    writeFileSync(join(this.dir, 'rc'), `[sip]
sip_port=${port}
sip_tcp_port=0
sip_tls_port=0
use_ipv6=0
media_encryption=none
contact="Linphone" <sip:${number}@10.77.0.2>
[rtp]
audio_rtp_port=41000-41100
[video]
enabled=0
`);
  }

  async start(t) {
    t.after(() => this.stop());
    // It takes a network without a way out for none.
    try { execFileSync('ip', ['-n', ns, 'route', 'add', 'default', 'via', '10.77.0.1'], { stdio: 'pipe' }); } catch { /* it is there already */ }
    this.child = inHospital('linphonec', ['-c', join(this.dir, 'rc')], { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, HOME: this.dir } });
    await this.says('linphonec>');
    this.command('soundcard use files');
    await this.says('Using wav files');
    this.command(`play ${tone(8000)}`);
    this.command(`record ${this.heard}`);
    this.command('codec list');
    await this.says(/\d+: \S+ \(8000\)/);
    this.command('codec disable all');
    const [, index] = this.child.output.match(new RegExp(`(\\d+): ${this.codec} \\(8000\\)`)) ?? [];
    if (index === undefined) throw new Error(`linphonec has no ${this.codec}: ${this.child.output}`);
    this.command(`codec enable ${index}`);
    if (this.registrar) this.command(`register sip:${this.number}@${this.registrar} sip:${this.registrar} ${this.password}`);
    return this;
  }

  command(line) {
    this.child.stdin.write(`${line}\n`);
  }

  /** Waits for words that it has not said before. */
  async says(words, ms = 10_000) {
    const from = this.read ?? 0;
    await until(() => {
      const text = this.child.output.slice(from);
      const at = typeof words === 'string' ? text.indexOf(words) : text.search(words);
      if (at < 0) return false;
      this.read = from + at + 1;
      return true;
    }, () => `linphonec to say ${words}: ${this.child.output.slice(from)}`, ms);
  }

  /** What came out of its loudspeaker in the last second. */
  listen() {
    return measure(this.heard);
  }

  async stop() {
    this.child?.end('SIGTERM');
    const late = setTimeout(() => this.child?.end(), 3000);
    await this.child?.over;
    clearTimeout(late);
  }
}
