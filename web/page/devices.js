// The microphone and the camera: which there are, which is used, how loud it is here;
// and the tone of a telephone that rings.
import { say } from './text.js';

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

/** @param {MediaStreamTrack[]} [tracks] */
function stop(tracks) {
  for (const t of tracks ?? []) t.stop();
}

/** @param {HTMLSelectElement} select @param {MediaDeviceInfo[]} devices @param {string} [chosen] */
function fill(select, devices, chosen) {
  select.replaceChildren(...devices.map((d, i) => new Option(d.label || `${i + 1}`, d.deviceId, false, d.deviceId === chosen)));
}

export class Devices {
  /** @type {MediaStream | null} What is captured: one microphone, and a camera if one was chosen. */ stream = null;
  /** @type {AudioContext | null} */ #context = null;
  /** @type {OscillatorNode | null} */ #tone = null;
  #how;

  /** @param {{ plain: boolean, opened: (track: MediaStreamTrack) => unknown, failed: (why: string) => unknown }} how
   * plain: the sound is not processed, for measuring; opened and failed are told of each microphone. */
  constructor(how) { this.#how = how; }

  /** Opens the microphone that was chosen, or the system's. */
  async open() {
    if (!navigator.mediaDevices) {
      this.#how.failed('insecure');
      return;
    }
    /** @type {MediaTrackConstraints} */
    const audio = this.#how.plain ? { echoCancellation: false, noiseSuppression: false, autoGainControl: false } : {};
    if ($('microphone').value) audio.deviceId = { exact: $('microphone').value };
    try {
      const fresh = await navigator.mediaDevices.getUserMedia({ audio: Object.keys(audio).length ? audio : true });
      stop(this.stream?.getAudioTracks());
      this.stream = new MediaStream([...fresh.getAudioTracks(), ...this.stream?.getVideoTracks() ?? []]);
      await this.#how.opened(fresh.getAudioTracks()[0]);
      this.#meter();
      await this.#list();
    } catch (e) {
      const known = ['NotAllowedError', 'NotFoundError', 'NotReadableError'];
      this.#how.failed(known.includes(e.name) ? e.name : 'other');
    }
  }

  /** Opens the camera that was chosen, or closes the one that is open. */
  async openCamera() {
    stop(this.stream?.getVideoTracks());
    for (const t of this.stream?.getVideoTracks() ?? []) this.stream?.removeTrack(t);
    $('self-video').classList.remove('on');
    if (!$('camera').value) return;
    try {
      const s = await navigator.mediaDevices.getUserMedia({ video: { deviceId: { exact: $('camera').value } } });
      for (const t of s.getVideoTracks()) this.stream?.addTrack(t);
      $('self-video').srcObject = s;
      $('self-video').classList.add('on');
    } catch {
      $('camera').value = '';
    }
  }

  /** Lets go of the camera. */
  async closeCamera() {
    $('camera').value = '';
    await this.openCamera();
  }

  async #list() {
    const devices = await navigator.mediaDevices.enumerateDevices();
    fill($('microphone'), devices.filter((d) => d.kind === 'audioinput'), this.stream?.getAudioTracks()[0]?.getSettings().deviceId);
    const chosen = $('camera').value;
    fill($('camera'), devices.filter((d) => d.kind === 'videoinput'), chosen);
    const none = new Option(say('noCamera'), '', !chosen, !chosen);
    $('camera').prepend(none);
    if (!chosen) $('camera').value = '';
  }

  #meter() {
    this.#context?.close();
    const context = this.#context = new AudioContext();
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(/** @type {MediaStream} */ (this.stream)).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const draw = () => {
      if (context !== this.#context) return;
      analyser.getFloatTimeDomainData(samples);
      $('level').value = Math.min(1, 4 * Math.sqrt(samples.reduce((s, x) => s + x * x, 0) / samples.length));
      setTimeout(draw, 100);
    };
    draw();
  }

  /** What a caller hears while it rings, unless the hospital's end sends a sound of
   * its own: 425 Hz, one second in five (ETSI TR 101 041-2).
   * @param {boolean} on */
  ring(on) {
    if (on === !!this.#tone || !this.#context) return;
    if (!on) {
      this.#tone?.stop();
      this.#tone = null;
      return;
    }
    const context = this.#context, volume = context.createGain(), begin = context.currentTime;
    this.#tone = context.createOscillator();
    this.#tone.frequency.value = 425;
    volume.gain.value = 0;
    for (let n = 0; n < 60; n++) {
      volume.gain.setValueAtTime(0.1, begin + 5 * n);
      volume.gain.setValueAtTime(0, begin + 5 * n + 1);
    }
    this.#tone.connect(volume).connect(context.destination);
    this.#tone.start();
  }
}
