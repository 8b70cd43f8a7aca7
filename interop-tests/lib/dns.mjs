// A DNS server with the test's records.
import { spawn } from 'node:child_process';
import { track, until } from './net.mjs';

export const server = '127.0.0.53:15353';
let dns;

/** Serves records, as dnsmasq's options, in place of those served before. */
export async function serves(...records) {
  await forgets();
  const [host, port] = server.split(':');
  dns = track(spawn('dnsmasq', ['--no-daemon', '--no-resolv', '--no-hosts', '--bind-interfaces', `--listen-address=${host}`, `--port=${port}`, '--log-queries', ...records.map((r) => `--${r}`)],
    { stdio: ['ignore', 'pipe', 'pipe'] }));
  await until(() => dns.output.includes('started'), () => `dnsmasq: ${dns.output}`);
}

/** Answers nothing any more. */
export async function forgets() {
  dns?.end();
  await dns?.over;
}
