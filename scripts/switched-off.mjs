// Switches each sound feature off, one at a time, and says which test notices; one
// that none notices is a fault. Nothing in the tree is changed: go test takes the
// altered file as an overlay.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const features = [
  ['the delay follows the network', 'internal/media/jitter.go', 'return max(leastDelay, time.Duration(i+1)*grain)', 'return max(leastDelay, 0*time.Duration(i))', 'TestTheDelay'],
  ['packets are put in order', 'internal/media/jitter.go', 'if int16(p.Seq-b.next) < 0 {', 'if b.count > 0 && int16(p.Seq-b.next) < held && !b.slots[(p.Seq-1)%held].full {', 'TestTheDelay'],
  ['what comes twice is played once', 'internal/media/jitter.go', 'if s.full && s.seq == p.Seq {\n\t\treturn false', 'if s.full && s.seq == p.Seq {\n\t\treturn true', 'TestWhatComesTwice'],
  ['late packets are counted', 'internal/media/path.go', 'p.src.in.late.Add(1)', '', 'TestWhatComesTwice'],
  ['clocks may differ', 'internal/media/player.go', 'case at-p.changed < ease:', 'case true:', 'TestClocksThatDiffer'],
  ['words last as long as they did', 'internal/media/player.go', 'case over > 0:\n\t\treturn transcode.Tighter', 'case over > 0:\n\t\treturn transcode.Shorter', 'TestWordsLast'],
  ['only pauses are tightened', 'internal/transcode/transcode.go', 'tempo == Tighter && quiet(pcm)', 'tempo == Tighter', 'TestOnlyAPause'],
  ['a late drum makes no sound late', 'internal/media/path.go', 'pl.frame(pl.due, p.src', 'pl.frame(at, p.src', 'TestALateDrum'],
  ['packet times may change', 'internal/media/player.go', 'p.packet, p.hidden, p.silent = d, 0, false', 'p.hidden, p.silent = 0, false', 'TestThePacketTime|TestALongPacket'],
  ['a burst adds nothing to the delay', 'internal/media/player.go', 'if p.owed > 0 {', 'if false {', 'TestABurst'],
  ['sound is taken out and put in without a click', 'internal/transcode/conceal.go', 'if best >= alike {', 'if best >= 0 {', 'TestTimeIsTakenOut|TestClocks'],
  ['G.711 and G.722 conceal losses', 'internal/transcode/transcode.go', 't.hide.conceal(pcm)', 'clear(pcm)', 'TestALossIsHidden|TestLossIsMadeUp'],
  ['what arrives after a loss is blended in', 'internal/transcode/conceal.go', 'if c.lost > 0 {\n\t\t// The longer', 'if c.lost = 0; false {\n\t\t// The longer', 'TestALossIsHidden'],
  ['Opus repairs a loss from the next packet', 'internal/transcode/opus.go', 'if len(next) > 0 {', 'if false {', 'TestOpusRepairs'],
  ['Opus repeats itself', 'internal/transcode/opus.go', 'func() error { return e.SetInBandFEC(true) },', '', 'TestOpusRepairs'],
  ['how much follows the loss that is reported', 'internal/transcode/opus.go', 'return o.e.SetPacketLossPerc(percent)', 'return nil', 'TestOpusRepairs'],
  ['the encoder hears of that loss', 'internal/media/path.go', 'pl.expect(p.dst.far.expected.Load())', '', 'TestTheEncoderHearsOfLoss'],
  ['sound waits for a repair where packets are lost', 'internal/media/player.go', 'd += p.packet', '', 'TestSoundWaitsForItsRepair'],
  ['encoders spend less while the processors are busy', 'internal/media/load.go', 'return step.effort', 'continue', 'TestEncodersSpendLess'],
  ['comfort noise is made', 'internal/transcode/transcode.go', 't.noise.fill(pcm)', 'clear(pcm)', 'TestAPauseSounds'],
  ['comfort noise has its colour', 'internal/transcode/noise.go', 'f -= n.k[j] * n.back[j]', '', 'TestNoiseHas'],
  ['comfort noise is agreed on', 'internal/media/plain.go', 'formats = append(formats, noise8k())', '', 'TestPausesAreAgreed'],
  ['a pause of Opus is no loss', 'internal/transcode/transcode.go', 'len(payload) <= opusPause', 'false', 'TestAPauseOfOpus'],
  ['a pause is described', 'internal/media/player.go', 'may && p.quiet > fadeAway', 'false', 'TestAPauseOfOpus'],
  ['a browser is told how much of it is heard', 'internal/media/terms.go', 'hz = heard(m.Formats)', 'hz = 0 * heard(m.Formats)', 'TestABrowserIsToldHow'],
  ['and asked anew where it is more', 'internal/media/path.go', 'p.src.reaches(p.da.Send)', '', 'TestABrowserIsToldHow'],
  ['Opus is coded as the line is', 'internal/transcode/opus.go', 'percent, rate = max(percent, leastRepeated), o.silk*4/3', '', 'TestOpusCodes'],
  ['Opus pauses for who likes it', 'internal/transcode/opus.go', 'pauses = n == 1', 'pauses = false', 'TestAPauseOfOpus'],
  ['Opus is made at the rate that the peer takes', 'internal/transcode/opus.go', 'return min(rate, o.most)', 'return rate', 'TestOpusIsMade'],
  ['a thin line of a patient\'s is not offered what it cannot carry', 'internal/media/terms.go', '!Fits(f.Name, w.most)', 'false', 'TestABrowsersLine'],
  ['keys are heard in the sound', 'internal/media/tones.go', 't.detector.Hear(t.pcm[:n], t.pressed)', 't.detector.Hear(t.pcm[:n], func(dtmf.Digit) {})', 'TestAKeyPressed'],
  ['a key that is heard is muted', 'internal/media/tones.go', 'if t.detector.Suspects() {', 'if false {', 'TestAKeyPressed'],
  ['a key out of tune is none', 'internal/transcode/dtmf/tones.go', 'if d.inTune(0) && d.inTune(1) {', 'if true {', 'TestAKeyOutOfTune'],
  ['keys are sung', 'internal/media/tones.go', 'key.Fill(pcm)', '_ = key', 'TestAKeyPressed|TestKeysInTheSound'],
  ['tones are not listened for once events come', 'internal/media/stream.go', 'case k.law != nil && !s.hadEvent:', 'case k.law != nil:', 'TestTonesAreNot'],
  ['a fax is left alone', 'internal/transcode/fax.go', 'a.heard = a.hits >= answerHits', '', 'TestAfterAFax'],
  ['reports of both sides are bound together', 'internal/media/rtcp.go', 'far.answerFor(&b)', '_ = far', 'TestReportsAnswer'],
  ['reports go out early', 'internal/media/rtcp.go', 'if !early ||', 'if true ||', 'TestReportsGoOut'],
];

const dir = mkdtempSync(join(tmpdir(), 'sipbridge-off-'));
let unnoticed = 0;
for (const [name, file, from, to, tests] of features) {
  const text = readFileSync(join(root, file), 'utf8');
  if (text.split(from).length !== 2) throw new Error(`${name}: ${file} does not have it once: ${from}`);
  const altered = join(dir, 'altered.go'), overlay = join(dir, 'overlay.json');
  writeFileSync(altered, text.replace(from, () => to));
  writeFileSync(overlay, JSON.stringify({ Replace: { [join(root, file)]: altered } }));
  const r = spawnSync('go', ['test', '-overlay', overlay, '-run', `^(${tests})`, './internal/media', './internal/transcode/...'], { cwd: root, encoding: 'utf8' });
  const noticed = [...r.stdout.matchAll(/^--- FAIL: (\w+)/gm)].map((m) => m[1]);
  if (!noticed.length) unnoticed++;
  if (/build failed|setup failed/.test(r.stdout)) console.log(`${name}: the altered code does not build: ${r.stderr}`);
  else console.log(`${noticed.length ? 'noticed' : 'UNNOTICED'}: ${name}${noticed.length ? ` (${noticed.join(', ')})` : ''}`);
}
rmSync(dir, { recursive: true });
console.log(`${features.length - unnoticed} passed, ${unnoticed} failed`);
process.exitCode = unnoticed ? 1 : 0;
