// The page's end of docs/signalling.md: messages carry seq and ack, so that a
// WebSocket that breaks loses nothing.

const pingEvery = 5000;
const deadAfter = 15000;
const answersWithin = 800;
// A WebSocket over which nothing was said by then leads nowhere: a network that changed
// while it was opened may have swallowed it.
const greetedWithin = 4000;

export class Signalling extends EventTarget {
  /** @param {string} url @param {string} tab */
  constructor(url, tab) {
    super();
    this.url = url;
    this.tab = tab;
    this.fresh = true;
    this.seq = 0; // last we sent
    this.ack = 0; // last we got
    /** @type {any[]} */ this.out = []; // not acknowledged yet
    this.wait = 250;
    this.over = false;
    this.heard = 0;
    this.welcomed = false;
    setInterval(() => this.ping(), pingEvery);
    window.addEventListener('online', () => {
      this.connect();
      this.ping();
    });
    this.connect();
  }

  connect() {
    if (this.over || (this.ws && this.ws.readyState <= WebSocket.OPEN)) return;
    clearTimeout(this.timer);
    const ws = new WebSocket(this.url);
    this.ws = ws;
    this.welcomed = false;
    let spoke = false;
    const silence = setTimeout(() => {
      if (ws === this.ws && !spoke) this.renew();
    }, greetedWithin);
    ws.onopen = () => {
      this.heard = Date.now();
      ws.send(JSON.stringify({ type: 'hello', tab: this.tab, fresh: this.fresh, ack: this.ack }));
    };
    ws.onmessage = (e) => {
      this.heard = Date.now();
      spoke = true;
      if (ws === this.ws) this.take(JSON.parse(e.data));
    };
    ws.onclose = () => {
      clearTimeout(silence);
      if (ws !== this.ws || this.over) return;
      this.welcomed = false;
      this.dispatchEvent(new Event('lost'));
      this.timer = setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(this.wait * 2, 4000);
    };
  }

  /** @param {any} m */
  take(m) {
    if (m.ack) this.out = this.out.filter((o) => o.seq > m.ack);
    if (m.type === 'pong') {
      this.dispatchEvent(new Event('alive'));
      return;
    }
    if (m.type === 'welcome') {
      this.wait = 250;
      this.fresh = false;
      this.welcomed = true;
      if (m.fresh) {
        // The engine remembers nothing of this page: both begin to count anew.
        this.seq = 0;
        this.ack = 0;
        this.out = [];
      }
      for (const o of this.out) this.put({ ...o, ack: this.ack });
    } else if (m.seq) {
      if (m.seq !== this.ack + 1) return;
      this.ack = m.seq;
    }
    this.dispatchEvent(new CustomEvent('message', { detail: m }));
  }

  /** @param {any} m */
  send(m) {
    const o = { ...m, seq: ++this.seq };
    this.out.push(o);
    if (this.welcomed) this.put({ ...o, ack: this.ack });
  }

  /** @param {any} m */
  put(m) {
    if (this.ws?.readyState === WebSocket.OPEN) this.ws.send(JSON.stringify(m));
  }

  ping() {
    if (this.ws?.readyState !== WebSocket.OPEN) return;
    if (Date.now() - this.heard > deadAfter) this.renew();
    else this.put({ type: 'ping', ack: this.ack });
  }

  /** Whether the WebSocket still leads somewhere: a network that changed may have swallowed it. One that does not is renewed. */
  async check() {
    const ws = this.ws;
    if (ws?.readyState !== WebSocket.OPEN) return false;
    const asked = Date.now();
    this.ping();
    await new Promise((r) => setTimeout(r, answersWithin));
    if (this.heard >= asked) return true;
    if (ws === this.ws) this.renew();
    return false;
  }

  /** Drops a WebSocket that is dead, whose farewell nobody would hear, and opens another. */
  renew() {
    const dead = this.ws;
    this.ws = undefined;
    dead?.close();
    this.dispatchEvent(new Event('lost'));
    this.connect();
  }

  close() {
    this.over = true;
    this.ws?.close();
  }
}
