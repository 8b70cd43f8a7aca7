// The patient's page in Chromium: by keyboard, for a screen reader, and when things go wrong.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { makeHospital, dropHospital, endAll, until, sleep, Line } from '../lib/net.mjs';
import { Gateway, config } from '../lib/gateway.mjs';
import { launch, start, Patient } from '../lib/page.mjs';
import { answering, passes, sipp } from '../lib/sipp.mjs';

const routes = `  - {name: patients to the ward, when: 'call.source == "browser"', to: [trunk:ward]}
  - {name: telephones to patients, when: 'call.to.user.matches("^7[0-9]{6}$")', to: [visit]}`;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let gateway, browser;

before(async () => {
  makeHospital();
  gateway = await new Gateway(config({ routes })).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await endAll();
  dropHospital();
});

const invited = (to = '1000') => gateway.invite(`sip:${to}@hospital`);

async function lobby(t, options, context) {
  const patient = await Patient.open(t, browser, (await invited()).url, options, context);
  await patient.reach('lobby');
  return patient;
}

/** The ward answers a patient; it waits for the BYE. */
async function talking(t, patient) {
  const ward = await answering('uas-until-bye.xml');
  await patient.join();
  await patient.reach('connected');
  return ward;
}

/** Whom the keyboard would reach with Tab, until it is the element wanted. */
async function tabTo(patient, selector) {
  for (let i = 0; i < 40; i++) {
    if (await patient.page.evaluate((s) => document.activeElement?.matches(s), selector)) return;
    await patient.page.keyboard.press('Tab');
  }
  assert.fail(`Tab never reaches ${selector}`);
}

test('a whole call with nothing but the keyboard', async (t) => {
  const patient = await lobby(t);
  const ward = await answering('uas-keys.xml');
  await tabTo(patient, '#join:enabled');
  await patient.page.keyboard.press('Enter');
  await patient.reach('connected');
  assert.equal(await patient.page.evaluate(() => document.activeElement.id), 'hangup', 'the way out has the focus');
  await tabTo(patient, '#keypad button[data-digit="5"]');
  await patient.page.keyboard.press('Enter');
  await patient.page.keyboard.press('7');
  await patient.page.keyboard.press('#');
  await sleep(1200);
  await patient.page.keyboard.press('Shift+Tab');
  await tabTo(patient, '#mute');
  await patient.page.keyboard.press('Space');
  assert.equal(await patient.page.getAttribute('#mute', 'aria-pressed'), 'true');
  assert.match(await patient.text('status'), /off/);
  await tabTo(patient, '#hangup');
  await patient.page.keyboard.press('Enter');
  await patient.reach('ended');
  await passes(ward);
  assert.deepEqual(ward.messages().split(/^-{20,}.*$/m).filter((m) => /message received/.test(m) && /^INFO /m.test(m)).map((m) => m.match(/Signal=(.)/)[1]), ['5', '7', '#']);
  assert.deepEqual(patient.errors, []);
});

/** No fault against WCAG 2.2 A and AA that axe can see. */
async function accessible(t, patient, where) {
  await patient.page.evaluate(axe);
  const { violations, passes } = await patient.page.evaluate(() => globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
  assert.deepEqual(violations.map((v) => `${where}: ${v.id}: ${v.help}: ${v.nodes.map((n) => n.html).join(' ')}`), []);
  assert.ok(passes.length > 10, 'axe looked at nothing');
  t.diagnostic(`${where}: ${passes.length} rules hold`);
}

for (const [language, colorScheme] of [['en', 'light'], ['pt', 'dark']]) {
  test(`the page keeps WCAG 2.2 AA as far as a machine can tell (${language}, ${colorScheme})`, async (t) => {
    const patient = await lobby(t, `plain&lang=${language}`, { colorScheme });
    await accessible(t, patient, 'lobby');
    const ward = await talking(t, patient);
    assert.equal(await patient.page.getByRole('button', { name: language === 'en' ? 'Hang up' : 'Desligar', exact: true }).count(), 1);
    await accessible(t, patient, 'call');
    await patient.page.click('#hangup');
    await patient.reach('ended');
    await accessible(t, patient, 'ended');
    await passes(ward);
    const other = await Patient.open(t, browser, 'http://127.0.0.1:18080/v/lisbon.AAAA', `lang=${language}`, { colorScheme });
    await until(async () => (await other.text('notice')).length > 0, 'the notice');
    await accessible(t, other, 'a wrong link');
  });
}

test('the lobby: the level meter moves, the microphone and the camera can be chosen, and the language', async (t) => {
  const patient = await lobby(t);
  await until(() => patient.page.evaluate(() => document.getElementById('level').value > 0.1), 'the level meter to move');
  const microphones = await patient.page.$$eval('#microphone option', (o) => o.map((x) => x.value));
  assert.ok(microphones.length > 1, 'there is a choice of microphones');
  await patient.page.selectOption('#microphone', microphones[1]);
  await until(async () => (await patient.page.inputValue('#microphone')) === microphones[1], 'the microphone to be taken');
  const camera = await patient.page.$eval('#camera option:nth-child(2)', (o) => o.value);
  await patient.page.selectOption('#camera', camera);
  await until(() => patient.page.evaluate(() => document.getElementById('self-video').videoWidth > 0), 'the own picture');
  const ward = await talking(t, patient);
  assert.match(await patient.text('status'), /sound only/);
  await patient.page.click('#camera-off');
  assert.equal(await patient.page.evaluate(() => document.getElementById('self-video').srcObject.getVideoTracks()[0].enabled), false);
  await patient.page.selectOption('#language', 'pt');
  assert.equal(await patient.page.textContent('#hangup'), 'Desligar');
  assert.equal(await patient.page.getAttribute('html', 'lang'), 'pt');
  await patient.page.click('#hangup');
  await passes(ward);
});

test('a patient declines: the telephone hears 603', async (t) => {
  const inv = await invited();
  const patient = await Patient.open(t, browser, inv.url);
  await patient.reach('lobby');
  const ward = sipp('uac-declined.xml', { service: inv.dial_code });
  await patient.page.click('#decline:visible');
  await passes(ward);
  await patient.reach('ended');
});

test('the page is loaded again while the ward rings, and the call is answered on the new page', async (t) => {
  const patient = await lobby(t);
  const ward = await answering('uas-late.xml');
  await patient.join();
  await patient.reach('ringing');
  await patient.page.reload();
  await patient.reach('connected');
  assert.equal((await gateway.calls()).length, 1);
  await patient.page.click('#hangup');
  await passes(ward);
});

test('a computer without a microphone is told so, and so is one that refuses it', async (t) => {
  for (const [flags, words] of [[[], 'No microphone was found'], [['--use-fake-device-for-media-stream', '--deny-permission-prompts'], 'may not use your microphone']]) {
    const other = await start(...flags);
    t.after(() => other.close());
    const patient = await Patient.open(t, other, (await invited()).url);
    await patient.told(words);
    assert.equal(await patient.page.isDisabled('#join'), true);
  }
});

test('the line breaks in a call: the page says so, comes back by itself, and the call is the same', async (t) => {
  const line = new Line(18080);
  t.after(() => line.close());
  const port = await line.listen();
  const inv = await invited();
  const patient = await Patient.open(t, browser, inv.url.replace('18080', port));
  await patient.reach('lobby');
  const ward = await talking(t, patient);
  const [call] = await gateway.calls();
  line.cut();
  await patient.reach('reconnecting');
  assert.match(await patient.text('status'), /connection was lost/);
  await sleep(3000);
  line.mend();
  await patient.reach('connected');
  assert.equal((await gateway.calls())[0].id, call.id);
  await patient.page.context().setOffline(true);
  await patient.told('internet connection was lost');
  await patient.page.context().setOffline(false);
  await until(async () => (await patient.text('notice')) === '', 'the notice to be taken back', 15000);
  await patient.page.click('#hangup');
  await passes(ward);
});

test('a link that has expired, and one that was revoked while its page was open, are said to be so', async (t) => {
  const brief = await gateway.api('POST', '/api/v1/invites', { to: 'sip:1000@hospital', name: 'Maria', valid: '3s' });
  const early = await Patient.open(t, browser, brief.url);
  await early.reach('lobby');
  await sleep(3500);
  await early.join();
  await early.told('not valid');
  const late = await Patient.open(t, browser, brief.url);
  await late.told('not valid');
  const inv = await invited();
  const open = await Patient.open(t, browser, inv.url);
  await open.reach('lobby');
  await gateway.api('DELETE', `/api/v1/invites/${inv.id}`);
  await open.join();
  await open.told('not valid');
  assert.deepEqual(await gateway.calls(), []);
});

test('a WebSocket that leads nowhere is given up for another', async (t) => {
  const context = await browser.newContext();
  t.after(() => context.close());
  let opened = 0;
  await context.routeWebSocket(/signal/, (ws) => { if (++opened > 1) ws.connectToServer(); });
  const patient = new Patient(await context.newPage());
  await patient.page.goto(`${(await invited()).url}?plain&lang=en`);
  await patient.reach('lobby');
  assert.equal(opened, 2);
});
