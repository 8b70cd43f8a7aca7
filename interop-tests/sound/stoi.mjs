// Short-time objective intelligibility (Taal, Hendriks, Heusdens, Jensen, 2011):
// how much of clean speech is still understood in what arrived, 0 to 1. Both are
// samples at 10 kHz. What a jitter buffer stretched is put right first: without
// that the figure says nothing.
export const rate = 10000;
const frame = 256, hop = 128, size = 512, bands = 15, segment = 30, clip = 1 + 10 ** (15 / 20), dynamic = 40;

/** The intelligibility of heard, whose clean origin is said. */
export function stoi(said, heard) {
  const [x, y] = withoutSilence(said, realigned(said, heard)).map(spectrum);
  let sum = 0, n = 0;
  for (let m = segment; m <= x.length; m++) {
    for (let j = 0; j < bands; j++) {
      const a = [], b = [];
      for (let k = m - segment; k < m; k++) { a.push(x[k][j]); b.push(y[k][j]); }
      const scale = norm(a) / (norm(b) || 1e-12);
      sum += correlation(a, b.map((v, i) => Math.min(v * scale, a[i] * clip)));
      n++;
    }
  }
  if (!n) throw new Error('too little speech to judge');
  return sum / n;
}

const norm = (v) => Math.sqrt(v.reduce((s, e) => s + e * e, 0));

function correlation(a, b) {
  const ma = a.reduce((s, e) => s + e, 0) / a.length, mb = b.reduce((s, e) => s + e, 0) / b.length;
  let ab = 0, aa = 0, bb = 0;
  for (let i = 0; i < a.length; i++) {
    ab += (a[i] - ma) * (b[i] - mb);
    aa += (a[i] - ma) ** 2;
    bb += (b[i] - mb) ** 2;
  }
  return ab / (Math.sqrt(aa * bb) || 1e-12);
}

const hann = Float64Array.from({ length: frame }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 1)) / (frame + 1)));

/** Leaves out the frames in which nobody spoke. */
function withoutSilence(x, y) {
  const levels = [];
  for (let at = 0; at + frame <= x.length; at += hop) {
    let e = 0;
    for (let i = 0; i < frame; i++) e += (x[at + i] * hann[i]) ** 2;
    levels.push(10 * Math.log10(e + 1e-20));
  }
  const least = Math.max(...levels) - dynamic;
  const loud = levels.flatMap((l, i) => (l > least ? [i * hop] : []));
  return [x, y].map((s) => {
    const out = new Float64Array(loud.length * hop + frame);
    loud.forEach((at, k) => { for (let i = 0; i < frame; i++) out[k * hop + i] += (s[at + i] ?? 0) * hann[i]; });
    return out;
  });
}

const edges = Array.from({ length: bands }, (_, j) => {
  const centre = 150 * 2 ** (j / 3);
  return [centre * 2 ** (-1 / 6), centre * 2 ** (1 / 6)].map((f) => Math.round((f * size) / rate));
});

/** The amplitude in each third of an octave, frame by frame. */
function spectrum(s) {
  const out = [];
  const re = new Float64Array(size), im = new Float64Array(size);
  for (let at = 0; at + frame <= s.length; at += hop) {
    re.fill(0);
    im.fill(0);
    for (let i = 0; i < frame; i++) re[i] = s[at + i] * hann[i];
    transform(re, im);
    out.push(edges.map(([from, to]) => {
      let e = 0;
      for (let k = from; k < to; k++) e += re[k] ** 2 + im[k] ** 2;
      return Math.sqrt(e);
    }));
  }
  return out;
}

/** The fast Fourier transform, in place. */
function transform(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) { [re[i], re[j]] = [re[j], re[i]]; [im[i], im[j]] = [im[j], im[i]]; }
  }
  for (let len = 2; len <= n; len <<= 1) {
    const angle = (-2 * Math.PI) / len;
    for (let i = 0; i < n; i += len) {
      for (let k = 0; k < len / 2; k++) {
        const c = Math.cos(angle * k), s = Math.sin(angle * k);
        const p = i + k, q = p + len / 2;
        const tr = re[q] * c - im[q] * s, ti = re[q] * s + im[q] * c;
        re[q] = re[p] - tr; im[q] = im[p] - ti;
        re[p] += tr; im[p] += ti;
      }
    }
  }
}

const block = 3000, reach = 1500; // samples: a piece that is placed by itself, and how far from the one before it

/** Puts each piece of what was heard where it was said. */
export function realigned(said, heard) {
  const out = new Float64Array(said.length);
  let offset = roughly(said, heard);
  for (let at = 0; at < said.length; at += block) {
    const end = Math.min(at + block, said.length);
    offset = place(said, heard, at, end, offset);
    for (let i = at; i < end; i++) out[i] = heard[i + offset] ?? 0;
  }
  return out;
}

/** By how much all is later, from the loudness alone. */
function roughly(said, heard) {
  const step = 100; // 10 ms
  const loudness = (s) => Array.from({ length: Math.floor(s.length / step) }, (_, k) => {
    let e = 0;
    for (let i = k * step; i < (k + 1) * step; i++) e += s[i] ** 2;
    return Math.sqrt(e);
  });
  const a = loudness(said), b = loudness(heard);
  let best = -1, found = 0;
  for (let d = -100; d < b.length - 50; d++) {
    let ab = 0, bb = 0;
    for (let k = 0; k < a.length; k++) { const v = b[k + d] ?? 0; ab += a[k] * v; bb += v * v; }
    const r = ab / (Math.sqrt(bb) || 1e-12);
    if (r > best) { best = r; found = d; }
  }
  return found * step;
}

/** Where a piece fits best, near where the one before it did. */
function place(said, heard, at, end, near) {
  let loud = 0;
  for (let i = at; i < end; i++) loud += said[i] ** 2;
  if (loud < 1e-5 * (end - at)) return near; // nothing to go by
  let best = -2, found = near;
  for (let d = near - reach; d <= near + reach; d++) {
    let ab = 0, bb = 0;
    for (let i = at; i < end; i++) { const v = heard[i + d] ?? 0; ab += said[i] * v; bb += v * v; }
    const r = ab / Math.sqrt(loud * bb + 1e-12) - 2e-5 * Math.abs(d - near);
    if (r > best) { best = r; found = d; }
  }
  return found;
}
