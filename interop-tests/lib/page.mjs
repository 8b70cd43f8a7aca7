// The patient: the real page in a real Chromium whose microphone plays a tone.
import { chromium } from 'playwright-core';
import { execFileSync } from 'node:child_process';
import { until } from './net.mjs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-features=OptimizationHints', '--autoplay-policy=no-user-gesture-required'];

/** A tone as a WAV file: 1 kHz, a third of full scale. */
export function tone(rate, channels = 1, seconds = 120) {
  const f = join(tmpdir(), `sipbridge-tone-${rate}-${channels}.wav`);
  execFileSync('sox', ['-n', '-r', String(rate), '-c', String(channels), '-b', '16', f, 'synth', String(seconds), 'sine', '1000', 'vol', '0.33']);
  return f;
}

/** Starts a browser; what it has for a microphone and what it allows are the caller's flags. */
export const start = (...more) => chromium.launch({ executablePath: '/usr/bin/chromium', args: [...flags, ...more] });

/** Starts a browser whose microphone plays a tone and that lets the page use it. */
export const launch = () => start('--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', `--use-file-for-fake-audio-capture=${tone(48000)}`);

export class Patient {
  constructor(page) {
    this.page = page;
    this.errors = [];
    page.on('pageerror', (e) => this.errors.push(String(e)));
  }

  static async open(t, browser, url, options = 'plain&lang=en', context = {}) {
    context = await browser.newContext(context);
    t.after(() => context.close());
    await context.addInitScript(() => { // its connections, for what they measure
      window.connections = [];
      window.RTCPeerConnection = class extends RTCPeerConnection { constructor(...a) { super(...a); window.connections.push(this); } };
    });
    const p = new Patient(await context.newPage());
    await p.page.goto(`${url}?${options}`);
    return p;
  }

  state() {
    return this.page.evaluate(() => document.body.dataset.callState);
  }

  async reach(state, ms = 15000) {
    try {
      await this.page.waitForFunction((s) => document.body.dataset.callState === s, state, { timeout: ms, polling: 20 });
    } catch {
      throw new Error(`the page is ${await this.state()}, not ${state}: ${await this.page.innerText('main')}`);
    }
  }

  text(id) {
    return this.page.evaluate((i) => document.getElementById(i).textContent, id);
  }

  async join() {
    await this.page.click('#join:enabled');
  }

  /** Waits for words in the live region of problems. */
  async told(words) {
    await until(async () => (await this.text('notice')).includes(words), async () => `the page to say "${words}": ${await this.page.innerText('main')}`);
  }

  async press(digit) {
    await this.page.click(`button[data-digit="${digit}"]`);
  }

  /** What comes out of the page's loudspeaker: the strongest frequency and its level. */
  async hear() {
    return this.page.evaluate(async () => {
      const context = new AudioContext();
      const analyser = context.createAnalyser();
      analyser.fftSize = 16384;
      context.createMediaStreamSource(document.getElementById('remote-audio').srcObject).connect(analyser);
      await new Promise((r) => setTimeout(r, 1000));
      const f = new Float32Array(analyser.frequencyBinCount);
      analyser.getFloatFrequencyData(f);
      const t = new Float32Array(analyser.fftSize);
      analyser.getFloatTimeDomainData(t);
      const hz = f.indexOf(Math.max(...f)) * context.sampleRate / analyser.fftSize;
      const rms = Math.sqrt(t.reduce((a, x) => a + x * x, 0) / t.length);
      await context.close();
      return { hz, db: 20 * Math.log10(rms || 1e-9) };
    });
  }

  /** How many packets of sound have come. */
  async packets() {
    return this.page.evaluate(async () => [...(await window.connections.at(-1).getStats()).values()].reduce((n, s) => n + (s.type === 'inbound-rtp' ? s.packetsReceived : 0), 0));
  }

  /** How its packets go: the chosen pair, its own candidate and the other one. */
  async pair() {
    return this.page.evaluate(async () => {
      const all = [...(await window.connections.at(-1).getStats()).values()];
      const pair = all.find((s) => s.id === all.find((t) => t.type === 'transport')?.selectedCandidatePairId);
      return { pair, own: all.find((s) => s.id === pair?.localCandidateId), other: all.find((s) => s.id === pair?.remoteCandidateId) };
    });
  }

  async way() { return (await this.pair()).own; }

  /** What the browser measures of the sound that it gets. */
  async receives() {
    return this.page.evaluate(async () => [...(await window.connections.at(-1).getStats()).values()].find((s) => s.type === 'inbound-rtp' && s.kind === 'audio'));
  }

  close() {
    return this.page.context().close();
  }
}
