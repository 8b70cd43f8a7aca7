// docs/compliance.md, from the matrix: node interop-tests/sipp/compliance.mjs writes it.
import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { matrix } from './matrix.mjs';

export function compliance() {
  const rows = matrix.map((line, n) => ({ ...line, n })).sort((a, b) => Number(a.rfc.match(/\d+/)) - Number(b.rfc.match(/\d+/)) || a.n - b.n);
  return `# What of SIP is proven

Written by \`node interop-tests/sipp/compliance.mjs\`; do not edit. Each line is a scenario of
\`interop-tests/sipp/matrix.mjs\`, which SIPp plays against the gateway in every run of \`make test\`; it
fails if what stands here does not hold.

| where it is written | what is seen |
| --- | --- |
${rows.map((r) => `| ${r.rfc} | ${r.what} |`).join('\n')}
`;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) writeFileSync(new URL('../../docs/compliance.md', import.meta.url), compliance());
