// docs/performance.md and its picture, from the rows of bench.mjs.

const engines = { sipbridge: '#0b5cad', rtpengine: '#c77700' };

/** How many calls were up. */
const up = (r) => (r.up < r.calls ? `${r.up} of ${r.calls}, the rest refused` : r.calls);

/** Processor time a call over calls, as an SVG. */
export function picture(rows) {
  const points = rows.filter((r) => r.codec === 'PCMU' && r.srtp === 'gcm');
  const width = 640, height = 320, left = 60, bottom = 40;
  const calls = Math.max(...points.map((r) => r.calls)), most = Math.max(...points.map((r) => r.cpu)) * 1.1;
  const x = (n) => left + (width - left - 20) * n / calls;
  const y = (ms) => height - bottom - (height - bottom - 20) * ms / most;
  const out = [`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12" role="img">`,
    '<title>Processor milliseconds a call-second, by simultaneous calls</title>', `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<path d="M${left} 20V${height - bottom}H${width - 20}" fill="none" stroke="#333"/>`];
  for (let ms = 0; ms < most; ms += 0.5) out.push(`<text x="${left - 8}" y="${y(ms) + 4}" text-anchor="end">${ms.toFixed(1)}</text>`);
  for (const n of new Set(points.map((r) => r.calls))) out.push(`<text x="${x(n)}" y="${height - bottom + 16}" text-anchor="middle">${n}</text>`);
  out.push(`<text x="${width / 2}" y="${height - 6}" text-anchor="middle">simultaneous calls</text>`,
    `<text x="14" y="${height / 2}" text-anchor="middle" transform="rotate(-90 14 ${height / 2})">ms a call-second</text>`);
  let line = 0;
  for (const [name, colour] of Object.entries(engines)) {
    const mine = points.filter((r) => r.engine === name).sort((a, b) => a.calls - b.calls);
    out.push(`<polyline fill="none" stroke="${colour}" stroke-width="2" points="${mine.map((r) => `${x(r.calls).toFixed(1)},${y(r.cpu).toFixed(1)}`).join(' ')}"/>`);
    for (const r of mine) out.push(`<circle cx="${x(r.calls).toFixed(1)}" cy="${y(r.cpu).toFixed(1)}" r="3" fill="${colour}"/>`);
    out.push(`<text x="${width - 110}" y="${36 + 16 * line++}" fill="${colour}">${name}</text>`);
  }
  return `${out.join('\n')}\n</svg>\n`;
}

/** The README with the few lines that a newcomer wants. */
export function readme(text, rows, result) {
  const line = (r) => `| ${r.engine} | ${r.name} | ${up(r)} | ${r.cpu.toFixed(2)} | ${(r.memory / r.up).toFixed(0)} | ${r.goroutines ? r.goroutines.toFixed(0) : '-'} | `
    + `${r.MedianMS.toFixed(1)} / ${r.P95MS.toFixed(1)} | ${r.Latency50 ? `${r.Latency50.toFixed(2)} / ${r.Latency99.toFixed(2)}` : '-'} |`;
  const table = `| | sound | calls | CPU ms a call-second | KiB a call | goroutines a call | set-up median / 95th, ms | latency median / 99th, ms |
| --- | --- | --- | --- | --- | --- | --- | --- |
${rows.map(line).join('\n')}

Medians of turns: **${result.passthrough_gcm_cpu_vs_rtpengine.toFixed(2)}** of rtpengine's processor time for sound that crosses untouched with AES-GCM, **${result.passthrough_cm_cpu_vs_rtpengine.toFixed(2)}** with
AES-CM, **${result.opus_cpu_vs_rtpengine.toFixed(2)}** for Opus where nothing is lost (8 kHz and complexity 5 against its 48 kHz and 10). rtpengine speaks no SIP: its set-up
is two control commands.`;
  return text.replace(/<!-- bench -->[^]*<!-- \/bench -->/, `<!-- bench -->\n${table}\n<!-- /bench -->`);
}

/** What was aimed at, and what came of it. */
export function goals(result, overload, at500) {
  const line = (what, goal, got, reached) => `| ${what} | ${goal} | ${reached ? got : `**${got}**`} | ${reached ? 'reached' : 'missed'} |`;
  const ratio = (what, most, got) => line(what, `at most ${most}`, got.toFixed(2), got <= most);
  const kept = overload.Calls - overload.Refused - overload.Failed;
  return `## Against the goals

| | goal | here | |
| --- | --- | --- | --- |
${[ratio("rtpengine's processor time, untouched, AES-GCM", 0.85, result.passthrough_gcm_cpu_vs_rtpengine),
    ratio("rtpengine's processor time, untouched, AES-CM", 0.95, result.passthrough_cm_cpu_vs_rtpengine),
    ratio("rtpengine's processor time, Opus", 0.3, result.opus_cpu_vs_rtpengine),
    line('500 calls on one core: latency, 99th of 100', 'under 5 ms, none lost', `${at500.Latency99.toFixed(1)} ms, ${(100 * at500.LostToWeb).toFixed(2)} % lost`, at500.Latency99 < 5 && at500.LostToWeb < 1e-4),
    line('memory', 'under 300 KiB a call', `${result.memory_kib_per_call.toFixed(0)} KiB`, result.memory_kib_per_call < 300),
    line('INVITE to 200, median', 'under 30 ms', `${result.invite_to_200_ms_median.toFixed(1)} ms`, result.invite_to_200_ms_median < 30),
    line('the answer to sound both ways', 'within 60 ms', `${result.answer_to_sound_ms_p95.toFixed(0)} ms for 95 of 100`, result.answer_to_sound_ms_p95 < 60),
    line('overload: transcoded calls kept', 'at least 90, under 0.1 % lost', `${kept}, ${(100 * overload.LostToWeb).toFixed(2)} % lost`, kept >= 90 && overload.LostToWeb < 0.001),
    line('overload: a refusal, 99th of 100', 'under 50 ms', `${overload.Refused99.toFixed(1)} ms`, overload.Refused99 < 50),
    ratio('processor time a call, 500 calls over 200', 1.15, result.growth_500_vs_200)].join('\n')}

Where the time goes is at the end of this page.
`;
}

/** docs/performance.md. */
export function document(rows, result, overload, machine) {
  const spread = (list) => (list.length > 1 ? ` (${Math.min(...list).toFixed(2)} to ${Math.max(...list).toFixed(2)})` : '');
  const table = rows.map((r) => `| ${r.engine} | ${r.name} | ${up(r)} | ${r.turns} | ${r.cpu.toFixed(2)} | ${(r.memory / r.up).toFixed(0)} | ${r.goroutines ? r.goroutines.toFixed(0) : '-'} | `
    + `${r.MedianMS.toFixed(1)} / ${r.P95MS.toFixed(1)} | ${r.Sound50.toFixed(0)} / ${r.Sound95.toFixed(0)} | ${r.Latency50 ? `${r.Latency50.toFixed(2)} / ${r.Latency99.toFixed(2)}` : '-'} | ${r.Rising50 ? `${r.Rising50.toFixed(2)} / ${r.Rising99.toFixed(2)}` : '-'} | ${(100 * r.LostToWeb).toFixed(2)} % | ${(100 * r.busy).toFixed(0)} % |`);
  const of = (key) => rows.find((r) => r.key === key && r.engine === 'sipbridge');
  return `# Performance

Written by \`make bench\`; do not edit. ${machine.processor}, ${machine.cores} cores, a virtual machine: take ratios, not values.

G.711 telephones call WebRTC patients that echo: 20 ms packets, 100 in and 100 out a second and call. The
gateway and, in turn (A B A B), rtpengine have the machine's first core, the generator has the second. Calls are
set up at 20 a second, at 10 for more than 200.
Processor time is that of every thread over ${machine.seconds} s with all calls up; what stands here are medians of the turns.
rtpengine is Debian's, in user space with one thread, driven by its control protocol with the same streams;
it speaks no SIP, so its set-up is two control commands. Memory is resident memory above an idle process.

${goals(result, overload, of('gcm500'))}
## What was measured

| | sound | calls | turns | CPU ms a call-second | KiB a call | goroutines a call | set-up median / 95th, ms | answer to sound both ways median / 95th, ms | latency median / 99th, ms | the same while calls are set up | lost | generator busy |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
${table.join('\n')}

![Processor time a call over simultaneous calls](performance.svg)

## Ratios to rtpengine's processor time, same run

| | median of turns |
| --- | --- |
| G.711 untouched, AES-GCM, 200 calls | **${result.passthrough_gcm_cpu_vs_rtpengine.toFixed(2)}**${spread(of('gcm200').ratios)} |
| G.711 untouched, AES-CM, 200 calls | **${result.passthrough_cm_cpu_vs_rtpengine.toFixed(2)}**${spread(of('cm200').ratios)} |
| G.711 <-> Opus, 20 calls | **${result.opus_cpu_vs_rtpengine.toFixed(2)}**${spread(of('opus20').ratios)} |

Opus is encoded at 8 kHz and complexity 5, which a telephone's band needs; rtpengine's own settings are 48 kHz
and complexity 10. The telephones speak without a pause and the patients echo it. Nothing is lost, and so Opus is
coded by transform (decision 004). Where a patient reports loss it is coded by prediction, which can repeat itself;
that encoder costs twice as much, and when all was coded so, the ratio was 0.32.

Memory from 50 to 200 calls: ${result.memory_kib_per_call.toFixed(0)} KiB a call, TLS-less WebSocket included (rtpengine, media alone: ${result.memory_kib_per_call_rtpengine.toFixed(0)}).
Processor time a call at 500 calls over that at 200: ${result.growth_500_vs_200.toFixed(2)}. From it follow ${result.passthrough_calls_per_core.toFixed(0)} untouched and ${result.opus_calls_per_core.toFixed(0)}
transcoded calls a core: that is division, not a run.

## More than a core holds

Offered ${overload.rate} transcoded calls a second for a minute, one core kept ${overload.Calls - overload.Refused - overload.Failed} of ${overload.Calls} and refused ${overload.Refused} with 503 and Retry-After,
99 of 100 within ${overload.Refused99.toFixed(0)} ms; ${overload.Failed} failed otherwise. Those kept lost ${(100 * overload.LostToWeb).toFixed(2)} % of their packets, from a second after
each answer to the end (generator ${(100 * overload.busy).toFixed(0)} % busy).

## Where the time goes

A packet costs a receive and a send, which the kernel bills at two thirds of it. What was taken away:

- **hand-overs**: sound is decrypted on the goroutine that read it and encrypted on the one that brings it,
  beside the PeerConnection (decision 006);
- **the scheduler**: calls to the kernel that never wait are not announced to it, so no thread is swapped for
  one that might have waited, and its monitor sleeps;
- **wake-ups**: a loop with more than 1,000 packets a second looks every 2 ms, with more than 30,000 every
  millisecond, instead of being woken for each (decision 007). That is the median latency above.

Of a profile of 200 untouched calls that sees the kernel, too (\`perf record -e cpu-clock\`, not by this run): the kernel 57 %
(sendto 34, of it half the way through the loopback to the other end; recvfrom 6; epoll 6), SRTP in and out 12, our own
code about 20, most of it waiting for memory, for each packet finds its call's state cold; Go's scheduler 4 and its
monitor thread 4; ICE's keep-alives and the pages' WebSockets 3. A connected socket would save a route's look-up, 2 %, for a
second descriptor a call. Of 20 transcoded calls, before Opus was coded by transform: libopus about 55 %, the monitor thread 9, because a call into C that
takes longer than 20 µs wakes it. The ratio of untouched sound has moved from 0.95
to 0.80 from one day to the next on the same code.

The generator's patients wake nobody either: on loopback a sender pays for waking the receiver, and what a
gateway sends in bursts would look cheaper than it is. Latency is from the telephone's clock at sending to the
kernel's at the patient's socket.

"Lost" counts from a second after each call's answer. Unmeasured: two gateway cores; more calls than the
generator's one core can play (see its last column).
`;
}
