// Speech over a bad line, three ways at once: through the gateway, from Chromium to
// Chromium, and through rtpengine. A telephone in the hospital or a browser there
// talks with a browser at home; each flow on the line loses the same packets.
import { execFileSync, spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { flags, Patient } from '../lib/page.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { ns, track, sleep, until } from '../lib/net.mjs';
import { answering } from '../lib/sipp.mjs';
import { inHome, nearEnd, telephone } from '../lab/lab.mjs';
import { rate } from './stoi.mjs';

const sentences = [
  'Good morning, this is the ward on the third floor. Did you take your tablets with water today?',
  'Please measure your blood pressure twice a day, and write both numbers on the yellow sheet.',
  'The doctor has looked at your pictures and would like to see you again next Thursday.',
  'Your daughter may come with you, but nobody should wait in the corridor for long.',
  'Keep the bandage dry for five days, and call us at once if the wound begins to smell.',
  'I cannot find your name on my list. Could you spell it slowly for me once more?',
  'Half a spoon of syrup is enough for a child of four; give it after breakfast.',
  'When you climb the stairs, does the pain begin in your chest or behind your knee?',
  'We have moved your appointment to a quarter past nine because the machine is being repaired.',
  'Bring the letter from your chemist, your glasses, and the box that the pills came in.',
];
const voices = ['en-gb', 'en-us', 'en-gb+f3', 'en-us+m3', 'en-gb-scotland', 'en-us+f4', 'en-gb-x-rp+m7', 'en-gb+f5'];

const dir = mkdtempSync(join(tmpdir(), 'sipbridge-sound-'));
const samples = (b) => Float64Array.from(new Float32Array(b.buffer, b.byteOffset, b.length >> 2));

/** Everything is judged in the telephone's band: 8 kHz on the way to the judge's rate. */
const judged = (file, ...format) => samples(execFileSync('sox', [...format, file, '-t', 'f32', '-c', '1', '-', 'rate', '8000', 'rate', String(rate)], { maxBuffer: 1 << 26, stdio: ['ignore', 'pipe', 'ignore'] }));

/** The n-th piece of speech: clean for the judge, as WAV for a browser, as A-law for a telephone. */
export function speech(n) {
  const raw = join(dir, 'raw.wav'), wav = join(dir, `say-${n}.wav`), alaw = join(dir, `say-${n}.al`);
  execFileSync('espeak-ng', ['-v', voices[n % voices.length], '-s', '150', '-w', raw, sentences[n % sentences.length]]);
  execFileSync('sox', [raw, '-r', '48000', '-c', '1', '-b', '16', wav, 'norm', '-6', 'pad', '0.3', '0.3']);
  execFileSync('sox', [wav, '-t', 'al', '-r', '8000', '-c', '1', alaw], { stdio: 'ignore' });
  const clean = judged(wav);
  return { wav: readFileSync(wav).toString('base64'), alaw, clean, ms: (clean.length / rate) * 1000 };
}

/** What a page gets: a microphone that says what it is told, and an ear. */
function equip() {
  const context = new AudioContext({ sampleRate: 48000 });
  const microphone = context.createMediaStreamDestination();
  const room = new ConstantSourceNode(context, { offset: 1e-4 }); // without a source that runs, the track sends nothing
  room.connect(microphone);
  room.start();
  const original = navigator.mediaDevices?.getUserMedia.bind(navigator.mediaDevices);
  if (original) {
    navigator.mediaDevices.getUserMedia = async (wish) => {
      const s = await original(wish);
      for (const t of s.getAudioTracks()) { t.stop(); s.removeTrack(t); }
      if (wish.audio) s.addTrack(microphone.stream.getAudioTracks()[0].clone());
      return s;
    };
  }
  let heard = [], keeping = false, listening;
  window.booth = {
    microphone: microphone.stream,
    async say(base64) {
      const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
      const source = context.createBufferSource();
      source.buffer = await context.decodeAudioData(bytes.buffer);
      source.connect(microphone);
      source.start();
    },
    async listen(stream) {
      await context.resume();
      const code = 'registerProcessor("ear", class extends AudioWorkletProcessor { process(i) { if (i[0][0]) this.port.postMessage(i[0][0].slice()); return true; } })';
      listening ??= context.audioWorklet.addModule(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })));
      await listening;
      const pump = new Audio(); // Chromium decodes for an element alone
      pump.muted = true;
      pump.srcObject = stream;
      await pump.play();
      const ear = new AudioWorkletNode(context, 'ear');
      ear.port.onmessage = (e) => { if (keeping) heard.push(e.data); };
      context.createMediaStreamSource(stream).connect(ear).connect(context.destination);
    },
    record() { heard = []; keeping = true; },
    keep() {
      keeping = false;
      const all = new Float32Array(heard.reduce((n, a) => n + a.length, 0));
      let at = 0;
      for (const a of heard) { all.set(a, at); at += a.length; }
      const bytes = new Uint8Array(all.buffer);
      let text = '';
      for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
      return btoa(text);
    },
  };
}

let files = 0;

/** A page as somebody who talks and listens. */
const person = (page) => ({
  say: (s) => page.evaluate((b) => window.booth.say(b), s.wav),
  record: () => page.evaluate(() => window.booth.record()),
  keep: async () => {
    const file = join(dir, `heard-${++files}.f32`);
    writeFileSync(file, Buffer.from(await page.evaluate(() => window.booth.keep()), 'base64'));
    const s = judged(file, '-t', 'f32', '-r', '48000', '-c', '1');
    rmSync(file);
    return s;
  },
});

/** A telephone likewise. */
const caller = (phone) => ({
  say: (s) => phone.ask({ say: s.alaw }),
  record: () => phone.ask({ record: true }),
  keep: async () => {
    const file = join(dir, `heard-${++files}.al`);
    await phone.ask({ keep: file });
    const s = judged(file, '-t', 'al', '-r', '8000', '-c', '1');
    rmSync(file);
    return s;
  },
});

export class Booth {
  async open() {
    this.gateway = await new Gateway(config({ routes: '  - {name: patients to the ward, to: [trunk:ward], codecs: [opus, PCMA]}' })
      .replaceAll('127.0.0.1:18080', `${nearEnd}:18080`)).start();
    const allow = [...flags, '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', '--disable-features=WebRtcHideLocalIpsWithMdns',
      `--unsafely-treat-insecure-origin-as-secure=http://${nearEnd}:18080`];
    this.home = await chromium.launch({ executablePath: inHome('/usr/bin/chromium'), args: allow });
    this.hospital = await chromium.launch({ executablePath: '/usr/bin/chromium', args: allow });
    this.phones = [await telephone(ns, 6000), await telephone(ns, 6100)];
    return this;
  }

  async rtpengine() {
    this.engine = track(spawn('rtpengine', ['--table=-1', '--config-file=none', '--interface=in/10.77.0.1', `--interface=out/${nearEnd}`, '--listen-ng=127.0.0.1:12223',
      '--foreground', '--log-level=3', '--port-min=30000', '--port-max=33999', '--pidfile=/dev/null'], { stdio: ['ignore', 'pipe', 'pipe'] }));
    await until(() => ng({ command: 'ping' }).then(() => true, () => false), () => `rtpengine: ${this.engine.output}`);
  }

  async close() {
    await this.home?.close();
    await this.hospital?.close();
    rmSync(dir, { recursive: true });
  }

  async page(browser) {
    const context = await browser.newContext();
    this.ends.push(() => context.close());
    await context.addInitScript(equip);
    await context.route('http://localhost/**', (r) => r.fulfill({ contentType: 'text/html', body: '<title>booth</title>' }));
    const page = await context.newPage();
    await page.goto('http://localhost/');
    return page;
  }

  /** Connects everybody, runs f with the pairs, hangs up. A pair is who is at home and who in the hospital. */
  async with(names, f) {
    this.ends = [];
    try {
      const pairs = {};
      for (const name of names) pairs[name] = await this[`through_${name}`]();
      await sleep(5000); // jitter buffers forget how busy the machine was with setting up
      return await f(pairs);
    } finally {
      for (const end of this.ends.reverse()) await end();
    }
  }

  async through_gateway() {
    const ward = await answering('uas-until-bye.xml', { media: ['10.77.0.3', 6000], seconds: 300 });
    this.ends.push(() => ward.over);
    const invitation = await this.gateway.invite('sip:1000@hospital');
    const context = await this.home.newContext({ bypassCSP: true });
    this.ends.push(() => context.close());
    await context.addInitScript(equip);
    const patient = new Patient(await context.newPage());
    await patient.page.goto(`${invitation.url}?plain&lang=en`);
    await patient.join();
    await patient.reach('connected');
    this.ends.push(() => patient.page.click('#hangup'));
    await this.phones[0].ask({ to: rtpOf(ward.messages()) });
    await patient.page.evaluate(() => window.booth.listen(document.getElementById('remote-audio').srcObject));
    return { home: person(patient.page), hospital: caller(this.phones[0]) };
  }

  async through_nothing() {
    const [home, hospital] = [await this.page(this.home), await this.page(this.hospital)];
    const offer = await home.evaluate(describe, {});
    const answer = await hospital.evaluate(describe, { offer });
    await home.evaluate(describe, { answer });
    for (const p of [home, hospital]) await connected(p);
    return { home: person(home), hospital: person(hospital) };
  }

  async through_rtpengine() {
    const page = await this.page(this.home);
    const id = `booth-${++files}`;
    const phone = 'v=0\r\no=- 1 1 IN IP4 10.77.0.3\r\ns=-\r\nc=IN IP4 10.77.0.3\r\nt=0 0\r\nm=audio 6100 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n';
    const offer = await ng({ command: 'offer', 'call-id': id, 'from-tag': 'a', sdp: phone, 'transport-protocol': 'UDP/TLS/RTP/SAVPF', ICE: 'force', direction: ['in', 'out'],
      flags: ['trust-address', 'generate-mid'], 'rtcp-mux': ['require'], SDES: ['off'], codec: { transcode: ['opus'], mask: ['PCMA'] } });
    const answer = await page.evaluate(describe, { offer: { type: 'offer', sdp: offer.sdp } });
    const back = await ng({ command: 'answer', 'call-id': id, 'from-tag': 'a', 'to-tag': 'b', sdp: answer.sdp, 'transport-protocol': 'RTP/AVP', ICE: 'remove',
      flags: ['trust-address'], 'rtcp-mux': ['demux'] });
    this.ends.push(() => ng({ command: 'delete', 'call-id': id, 'from-tag': 'a' }));
    await this.phones[1].ask({ to: rtpOf(back.sdp) });
    await connected(page);
    return { home: person(page), hospital: caller(this.phones[1]) };
  }
}

/** Where the first description in a text wants its sound. */
const rtpOf = (text) => `${text.match(/^c=IN IP4 (\S+)/m)[1]}:${text.match(/^m=audio (\d+)/m)[1]}`;

/** In a page: one step of offer and answer, with every candidate. */
async function describe({ offer, answer }) {
  if (answer) return window.pc.setRemoteDescription(answer);
  const pc = new RTCPeerConnection();
  window.pc = pc;
  pc.ontrack = (e) => { window.heard = window.booth.listen(new MediaStream([e.track])); };
  pc.addTrack(window.booth.microphone.getAudioTracks()[0]);
  if (offer) await pc.setRemoteDescription(offer);
  await pc.setLocalDescription();
  await new Promise((resolve) => {
    pc.onicegatheringstatechange = () => pc.iceGatheringState === 'complete' && resolve();
    pc.onicegatheringstatechange();
  });
  return pc.localDescription.toJSON();
}

async function connected(page) {
  await page.waitForFunction(() => window.pc.connectionState === 'connected');
  await page.evaluate(() => window.heard);
}

/** Says one thing in every pair, both ways at once, and judges what arrived. */
export async function exchange(pairs, said) {
  const all = Object.values(pairs).flatMap((p) => [p.home, p.hospital]);
  await Promise.all(all.map((p) => p.record()));
  await Promise.all(all.map((p) => p.say(said)));
  await sleep(said.ms + 700);
  const heard = {};
  for (const [name, p] of Object.entries(pairs)) heard[name] = { 'to the patient': await p.home.keep(), 'to the telephone': await p.hospital.keep() };
  return heard;
}

/** One command to rtpengine. */
function ng(command) {
  const socket = dgram.createSocket('udp4');
  const cookie = `b${++files}`;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`rtpengine does not answer ${command.command}`)), 3000);
    socket.on('message', (m) => {
      clearTimeout(timer);
      const [answer] = unbencode(m, cookie.length + 1);
      if (answer.result === 'error') reject(new Error(`rtpengine: ${answer['error-reason']}`));
      else resolve(answer);
    });
    socket.send(`${cookie} ${bencode(command)}`, 12223, '127.0.0.1');
  }).finally(() => socket.close());
}

function bencode(v) {
  if (typeof v === 'string') return `${Buffer.byteLength(v)}:${v}`;
  if (Array.isArray(v)) return `l${v.map(bencode).join('')}e`;
  return `d${Object.keys(v).sort().map((k) => bencode(k) + bencode(v[k])).join('')}e`;
}

/** The value at a place, and the place after it. */
function unbencode(b, at) {
  const c = String.fromCharCode(b[at]);
  if (c === 'i') {
    const end = b.indexOf('e', at);
    return [Number(b.subarray(at + 1, end)), end + 1];
  }
  if (c === 'l' || c === 'd') {
    const items = [];
    for (at++; b[at] !== 0x65;) {
      const [v, next] = unbencode(b, at);
      items.push(v);
      at = next;
    }
    if (c === 'l') return [items, at + 1];
    return [Object.fromEntries(items.flatMap((k, i) => (i % 2 ? [] : [[k, items[i + 1]]]))), at + 1];
  }
  const colon = b.indexOf(':', at), end = colon + 1 + Number(b.subarray(at, colon));
  return [b.subarray(colon + 1, end).toString(), end];
}
