// SIPp, run on one scenario of ours.
import { mkdtempSync, writeFileSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import assert from 'node:assert/strict';
import { inHospital, listensInHospital, until } from './net.mjs';

/** Starts SIPp as the ward, or at another address, on a scenario: the name of a file or the XML itself, with fill in the place of its marks and its sound at media, address and port. It waits so many seconds for a BYE. The child's over is its exit code: 0 when every call went as the scenario says. */
export function sipp(scenario, { at = '10.77.0.4', target = '10.77.0.1:5060', service = '1000', calls = 1, port = 5060, rate = 10, limit = 50, fill = {}, media, seconds = 60, extra = [] } = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'sipbridge-sipp-'));
  const errors = join(dir, 'errors.log');
  const messages = join(dir, 'messages.log');
  const file = join(dir, 'scenario.xml');
  let text = scenario.startsWith('<') ? scenario : readFileSync(new URL(`../sipp/${scenario}`, import.meta.url), 'utf8');
  for (const [mark, blocks] of Object.entries(fill)) text = text.replace(`@${mark}@`, () => blocks);
  if (media) text = text.replaceAll('[media_ip]', media[0]).replaceAll('[media_port]', media[1]);
  writeFileSync(file, text.replaceAll('timeout="60000"', `timeout="${seconds}000"`));
  const args = ['-sf', file, '-i', at, '-p', String(port), '-mi', at, '-s', service, '-m', String(calls), '-r', String(rate), '-l', String(limit),
    '-nostdin', '-timeout', `${seconds + 30}s`, '-timeout_error', '-trace_err', '-error_file', errors, '-trace_msg', '-message_file', messages,
    ...extra, target];
  const child = inHospital('sipp', args, { cwd: dir });
  child.messages = () => { try { return readFileSync(messages, 'utf8'); } catch { return ''; } };
  child.errors = () => { try { return readFileSync(errors, 'utf8'); } catch { return ''; } };
  return child;
}

/** Starts SIPp as a ward that is called, and waits until it listens. */
export async function answering(scenario, options = {}) {
  const child = sipp(scenario, options);
  let ended = null;
  child.over.then((code) => { ended = code; });
  await until(() => {
    if (ended !== null) throw new Error(`SIPp ended with ${ended}: ${child.output.slice(-1000)} ${child.errors()}`);
    return listensInHospital(child, options.port ?? 5060, options.at ?? '10.77.0.4');
  }, 'SIPp to listen');
  return child;
}

/** Waits for SIPp's end; every call must have gone as its scenario says. */
export async function passes(child) {
  const code = await child.over;
  assert.equal(code, 0, `SIPp ended with ${code}: ${child.errors().slice(-3000)}`);
}
