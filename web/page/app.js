// The patient's page: lobby, call, and what goes wrong said in plain words.
import { Signalling } from './signalling.js';
import { check, verdict } from './check.js';
import { Devices } from './devices.js';
import { say, speak, language } from './text.js';

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

const query = new URLSearchParams(location.search);

/** @type {RTCPeerConnection | null} */ let pc = null;
/** @type {RTCIceServer[]} What helps where the network is closed; the welcome tells. */ let relays = [];
/** @type {Signalling} */ let signalling;
/** @type {string | null} */ let offered = null; // the hospital's offer, until the patient answers
/** @type {string[]} */ let early = []; // candidates that came before the description
let state = 'joining';
let peer = '';
let held = false;
let recorded = false; // the hospital's end says that the call is
let sounding = false; // the hospital's end is heard, though it has not answered
let greeted = false; // the hospital's end knows this page: what is sent arrives
let name = '';
let statusKey = '';

/** @param {string} s */
function enter(s) {
  state = s;
  document.body.dataset.callState = s;
  const calling = ['ringing', 'connected', 'held', 'reconnecting'].includes(s);
  $('lobby').hidden = calling;
  $('call').hidden = !calling;
  $('keypad').disabled = s !== 'connected' && s !== 'held' && !(s === 'ringing' && sounding);
  devices.ring(s === 'ringing' && !sounding);
  $('decline').hidden = !offered;
  $('join').dataset.text = offered ? 'answer' : s === 'ended' ? 'again' : 'join';
  $('join').textContent = say($('join').dataset.text);
}

/** @param {string} key */
function status(key) {
  statusKey = key;
  if (key === 'ended.emergency' && byHospital) {
    $('status').textContent = byHospital[language] ?? byHospital.en ?? Object.values(byHospital)[0];
    return;
  }
  $('status').textContent = key === 'incoming' ? (peer ? say('incoming', { peer }) : say('incomingUnknown')) : key ? say(key) : '';
}

/** @param {boolean} yes */
function recording(yes) {
  recorded = yes;
  $('recording').textContent = yes ? say('recorded') : '';
}

/** @param {string} key */
function notice(key) {
  $('notice').dataset.key = key;
  $('notice').textContent = key ? say(key) : '';
}

/** Takes a notice back, if it is of that kind.
 * @param {string} kind */
function settled(kind) {
  if ($('notice').dataset.key?.startsWith(kind)) notice('');
}

function joinable() {
  $('join').disabled = !devices.stream || !greeted;
  $('check').disabled = !greeted || checking;
}

// ---- the way from here ----

let checking = false;

/** Looks which ways lead to the service, and says so line by line. */
async function checkWays() {
  checking = true;
  joinable();
  const list = document.createElement('ul'), end = document.createElement('p');
  end.textContent = say('check.busy');
  $('checked').replaceChildren(list, end);
  $('ask').hidden = true;
  const all = await check(relays, (f) => {
    const line = document.createElement('li'), round = Math.round;
    line.dataset.way = f.way;
    line.dataset.ok = String(f.ok);
    line.textContent = `${say(`check.${f.way}`)} ${f.ok ? say('check.works', { ms: round(f.ms ?? 0) }) : say('check.fails')}`
      + (f.lost ? ` ${say('check.lost', { lost: round(100 * f.lost) })}` : '')
      + (f.up ? ` ${say('check.rate', { up: round(f.up), down: round(f.down ?? 0) })}` : '');
    list.append(line);
  });
  const word = verdict(all);
  end.dataset.verdict = word;
  end.textContent = say(`check.${word}`);
  if (all.some((f) => !f.ok)) {
    const udp = relays.flatMap((r) => [r.urls].flat()).find((u) => /transport=udp/.test(u))?.match(/:(\d+)\?/)?.[1];
    $('request').textContent = say(udp ? 'check.requestBoth' : 'check.request', { host: location.hostname, port: location.port || '443', udp: udp ?? '' });
    $('ask').hidden = false;
  }
  checking = false;
  joinable();
}

// ---- microphone and camera ----

const devices = new Devices({
  plain: query.has('plain'),
  async opened(track) {
    settled('media.');
    joinable();
    await pc?.getSenders().find((s) => s.track?.kind === 'audio')?.replaceTrack(track);
    mute(muted());
  },
  failed(why) {
    notice(`media.${why}`);
    $('join').disabled = true;
  },
});

// ---- the call ----

function connect() {
  sounding = wanted = false;
  pc?.close();
  pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', iceServers: relays });
  const mine = pc;
  pc.onicecandidate = (e) => signalling.send({ type: 'candidate', candidate: e.candidate?.candidate ?? '' });
  pc.ontrack = (e) => {
    $('remote-audio').srcObject = e.streams[0] ?? new MediaStream([e.track]);
    $('remote-audio').play().catch(() => {});
  };
  pc.onconnectionstatechange = () => {
    if (mine !== pc) return;
    if (mine.connectionState === 'disconnected') {
      notice('network.weak');
      repairIn(patience);
    }
    if (mine.connectionState === 'failed') repairIn(0);
    if (mine.connectionState === 'connected') {
      clearTimeout(repairing);
      settled('network.');
      if (state === 'reconnecting' && signalling.welcomed) {
        enter(held ? 'held' : 'connected');
        status(held ? 'held' : 'connected');
      }
    }
  };
  const track = devices.stream?.getAudioTracks()[0];
  if (track) pc.addTrack(track, /** @type {MediaStream} */ (devices.stream));
  Object.assign(window, { pc });
  return pc;
}

/** How long a connection may be weak, and how long a new one may take, before it is given up, in ms. */
const patience = 1000, repairWithin = 6000;
/** @type {number | undefined} */ let repairing;

/** In a call whose path was lost, the network has another address, say: takes a new connection for the same call.
 * @param {number} ms */
function repairIn(ms) {
  clearTimeout(repairing);
  repairing = setTimeout(() => { if (pc?.connectionState !== 'connected') repair(); }, ms);
}

/** A new connection is wanted as soon as the engine is there, and has told which relays there are now. */
let wanted = false;

function repair() {
  if (!['connected', 'held', 'reconnecting'].includes(state) || !pc) return;
  last = 0;
  enter('reconnecting');
  status('reconnecting');
  wanted = !signalling.welcomed;
  if (wanted) return;
  if (!looking) signalling.check();
  offer('rejoin').catch((e) => console.error(e));
  repairIn(repairWithin);
}

/** How many packets have come. */
async function packets() {
  let n = 0;
  for (const s of (await pc?.getStats())?.values() ?? []) if (s.type === 'inbound-rtp') n += s.packetsReceived;
  return n;
}

/** Whether no sound comes to a connection that thinks it is well: the relay in its way was started anew, perhaps. */
async function silent() {
  if (held || pc?.connectionState !== 'connected') return false;
  const before = await packets();
  await new Promise((r) => setTimeout(r, 900)); // in a pause there is one packet in 400 ms (RFC 7587 §3.1.3)
  return await packets() === before;
}

let came = 0, last = 0, looking = false;
const talks = () => state === 'connected' && !held && pc?.connectionState === 'connected';

/** Looks whether sound still comes: where none does, and the engine does not answer either, the network has changed, long
 * before the browser would say so. */
async function watch() {
  if (!talks() || looking) return;
  const mine = pc, n = await packets();
  if (n !== came || !last) {
    came = n;
    last = Date.now();
  } else if (Date.now() - last > patience) {
    looking = true;
    const answers = await signalling.check();
    looking = false;
    last = Date.now();
    if (!answers && mine === pc) repair();
  }
}
setInterval(watch, 250);

/** @param {string} type */
async function offer(type) {
  early = [];
  const p = connect();
  const d = await p.createOffer();
  await p.setLocalDescription(d);
  signalling.send({ type, sdp: d.sdp });
}

async function answer() {
  const sdp = offered;
  offered = null;
  const p = connect();
  await p.setRemoteDescription({ type: 'offer', sdp: /** @type {string} */ (sdp) });
  await flush();
  const d = await p.createAnswer();
  await p.setLocalDescription(d);
  signalling.send({ type: 'answer', sdp: d.sdp });
}

async function flush() {
  const list = early;
  early = [];
  for (const c of list) await candidate(c);
}

/** @param {string} c */
async function candidate(c) {
  if (!pc?.remoteDescription) {
    early.push(c);
    return;
  }
  if (c) await pc.addIceCandidate({ candidate: c, sdpMLineIndex: 0 }).catch(() => {});
}

/** Whoever calls asks to be answered without a ring. */
let atOnce = false;

async function join() {
  notice('');
  $('digits').textContent = '';
  $('join').disabled = true;
  enter('joining');
  status('joining');
  try {
    await (offered ? answer() : offer('join'));
  } catch (e) {
    console.error(e);
    ended('failed');
  }
}

/** What the hospital says to a patient who must use a telephone, by language.
 * @type {Record<string, string> | undefined} */
let byHospital;

/** @param {string} code @param {Record<string, string>} [text] what the hospital says of it, by language */
function ended(code, text) {
  clearTimeout(repairing);
  pc?.close();
  pc = null;
  offered = null;
  held = false;
  recording(false);
  $('camera-off').hidden = false;
  enter('ended');
  byHospital = text;
  status(`ended.${code}`);
  joinable();
  $('join').focus();
}

/** @param {any} m */
async function take(m) {
  switch (m.type) {
    case 'welcome':
      relays = m.ice_servers ?? [];
      settled('network.');
      settled('error.away');
      if (!greeted) {
        greeted = true;
        joinable();
      }
      name = m.name ?? '';
      greet();
      await welcomed(m.state);
      break;
    case 'ringing':
      enter('ringing');
      status('ringing');
      break;
    case 'incoming':
      peer = m.peer ?? '';
      atOnce = m.at_once ?? false;
      early = [];
      break;
    case 'offer':
      offered = m.sdp;
      enter('lobby');
      status('incoming');
      joinable();
      $('join').focus();
      if (atOnce && !$('join').disabled) await join();
      break;
    case 'answer':
      sounding = true;
      if (state === 'ringing') enter('ringing');
      if (pc?.signalingState !== 'have-local-offer') break; // to a connection that was given up
      await pc.setRemoteDescription({ type: 'answer', sdp: m.sdp });
      await flush();
      break;
    case 'renegotiate': // the far end hears more of us now; a connection that is under way is described so anyway
      if (pc?.signalingState !== 'stable') break;
      await pc.setLocalDescription();
      signalling.send({ type: 'renegotiate', sdp: pc.localDescription?.sdp });
      break;
    case 'candidate':
      await candidate(m.candidate);
      break;
    case 'connected':
      held = false;
      enter('connected');
      if (m.camera === false) { // the hospital wants none in this call
        $('camera-off').hidden = true;
        await devices.closeCamera();
      }
      status(devices.stream?.getVideoTracks().length ? 'audioOnly' : 'connected');
      $('hangup').focus();
      break;
    case 'held':
      held = m.held;
      enter(held ? 'held' : 'connected');
      status(held ? 'held' : 'connected');
      break;
    case 'recording':
      recording(m.recorded);
      break;
    case 'repair': // the engine hears nothing, or cannot follow; what we noticed ourselves is under way
      if (pc?.connectionState === 'connected') repair();
      break;
    case 'digit':
      $('digits').textContent += m.digit;
      break;
    case 'ended':
      ended(m.code, m.text);
      break;
    case 'error':
      notice(`error.${m.code}`);
      if (m.code !== 'bad-message' && m.code !== 'away') {
        signalling.close();
        enter('ended');
        $('join').disabled = true;
        $('join').hidden = true;
      }
      break;
  }
}

/** @param {string} s */
async function welcomed(s) {
  const inCall = pc && pc.connectionState !== 'closed';
  if (s === 'lobby') {
    if (state === 'reconnecting') ended('over');
    else if (state !== 'ended' && !inCall) {
      enter('lobby');
      status('lobbyState');
    }
    return;
  }
  if (s === 'incoming') return; // the offer follows
  if (inCall) {
    if (s !== 'ringing' && (wanted || await silent())) {
      repair();
      return;
    }
    if (s !== 'ringing' && pc?.connectionState !== 'connected') { // it is under way, or to be repaired
      repairIn(['new', 'connecting'].includes(pc?.connectionState ?? '') ? repairWithin : patience);
      return;
    }
    enter(s === 'ringing' ? 'ringing' : held ? 'held' : 'connected');
    status(s === 'ringing' ? 'ringing' : held ? 'held' : 'connected');
    return;
  }
  // The page was loaded again in a call: a new connection for the same call.
  enter('reconnecting');
  status('reconnecting');
  await ready;
  if (devices.stream) await offer('rejoin');
}

function greet() {
  $('greeting').textContent = name ? say('greeting', { name }) : say('hello');
}

const muted = () => $('mute').getAttribute('aria-pressed') === 'true';

/** @param {boolean} on */
function mute(on) {
  $('mute').setAttribute('aria-pressed', String(on));
  for (const t of devices.stream?.getAudioTracks() ?? []) t.enabled = !on;
}

/** @param {string} digit */
function press(digit) {
  const dtmf = pc?.getSenders().find((s) => s.dtmf)?.dtmf;
  if (dtmf?.canInsertDTMF) dtmf.insertDTMF(dtmf.toneBuffer + digit, 100, 70);
  else signalling.send({ type: 'digit', digit, ms: 100 });
}

// ---- the page ----

for (const d of '123A456B789C*0#D') {
  const b = document.createElement('button');
  b.type = 'button';
  b.dataset.digit = d;
  b.textContent = d;
  b.onclick = () => press(d);
  $('keypad').append(b);
}
document.addEventListener('keydown', (e) => {
  if ($('keypad').disabled || e.ctrlKey || e.metaKey || e.altKey || e.target instanceof HTMLSelectElement) return;
  if ('0123456789*#'.includes(e.key) && e.key.length === 1) press(e.key);
});
$('join').onclick = join;
$('check').onclick = checkWays;
$('decline').onclick = () => {
  signalling.send({ type: 'decline' });
  ended('hangup');
};
$('hangup').onclick = () => {
  signalling.send({ type: 'hangup' });
  ended('hangup');
};
$('mute').onclick = () => {
  mute(!muted());
  status(muted() ? 'muted' : 'unmuted');
};
$('camera-off').onclick = () => {
  const off = $('camera-off').getAttribute('aria-pressed') !== 'true';
  $('camera-off').setAttribute('aria-pressed', String(off));
  for (const t of devices.stream?.getVideoTracks() ?? []) t.enabled = !off;
};
$('microphone').onchange = () => devices.open();
$('camera').onchange = () => devices.openCamera();
$('language').onchange = () => {
  localStorage.setItem('language', $('language').value);
  speak($('language').value);
  greet();
  status(statusKey);
  notice($('notice').dataset.key ?? '');
  recording(recorded);
  enter(state);
};
window.addEventListener('offline', () => notice('network.lost'));

speak(query.get('lang') ?? localStorage.getItem('language') ?? navigator.language.slice(0, 2));
$('language').value = language;

let tab = sessionStorage.getItem('tab');
if (!tab) {
  tab = crypto.getRandomValues(new Uint8Array(16)).reduce((s, b) => s + b.toString(16).padStart(2, '0'), '');
  sessionStorage.setItem('tab', tab);
}
enter('joining');
status('joining');
const ready = devices.open();
signalling = new Signalling(location.href.replace(/^http/, 'ws').replace(/[?#].*$/, '') + '/signal', tab);
let chain = Promise.resolve();
signalling.addEventListener('message', (e) => {
  // One at a time: an answer must be in place before what follows it.
  chain = chain.then(() => take(/** @type {CustomEvent} */ (e).detail)).catch((x) => console.error(x));
});
signalling.addEventListener('alive', () => settled('network.lost'));
signalling.addEventListener('lost', () => {
  if ($('notice').dataset.key === 'error.away') return; // that is why
  if (['ended', 'lobby'].includes(state)) notice('network.lost');
  else if (state !== 'joining') {
    enter('reconnecting');
    status('reconnecting');
  }
});
