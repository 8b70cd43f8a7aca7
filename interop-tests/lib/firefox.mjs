// The patient in a real Firefox, over WebDriver BiDi. Its microphone is the
// browser's own fake one, which plays a tone.
import puppeteer from 'puppeteer-core';

/** Starts Firefox; its microphone is a tone and needs no permission. */
export const launch = (more = {}, prefs = {}) => puppeteer.launch({ browser: 'firefox', executablePath: '/usr/bin/firefox-esr', headless: true, protocol: 'webDriverBiDi', ...more,
  extraPrefsFirefox: {
    'media.navigator.streams.fake': true, 'media.navigator.permission.disabled': true, 'media.peerconnection.ice.loopback': true,
    'media.autoplay.default': 0, 'media.cubeb.backend': 'null', ...prefs,
  } });

/** A page with the patient's link. */
export async function open(t, browser, url, lang = 'en') {
  const page = await browser.newPage();
  t.after(() => page.close().catch(() => {}));
  await page.goto(`${url}?plain&lang=${lang}`);
  const state = () => page.evaluate(() => document.body.dataset.callState);
  return {
    page, state,
    async reach(wanted, ms = 20000) {
      const end = Date.now() + ms;
      while (await state() !== wanted) {
        if (Date.now() > end) throw new Error(`the page is ${await state()}, not ${wanted}: ${await page.evaluate(() => document.querySelector('main').innerText)}`);
        await new Promise((r) => setTimeout(r, 50));
      }
    },
    /** What arrives: the codec, and the sound's energy over a second. */
    async hears() {
      return page.evaluate(async () => {
        const look = async () => {
          const all = [...(await window.pc.getStats()).values()];
          const s = all.find((x) => x.type === 'inbound-rtp');
          return { codec: all.find((x) => x.id === s.codecId)?.mimeType, energy: s.totalAudioEnergy, packets: s.packetsReceived };
        };
        const a = await look();
        await new Promise((r) => setTimeout(r, 1000));
        const b = await look();
        return { codec: b.codec, energy: b.energy - a.energy, packets: b.packets - a.packets };
      });
    },
    text: (id) => page.evaluate((i) => document.getElementById(i).textContent, id),
  };
}
