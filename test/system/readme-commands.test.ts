import { spawn } from 'node:child_process';
import { mkdtempSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { codeBlocks, readPage, ROOT } from '../helpers/readme';
import { dataDir, state } from '../helpers/system';

/** Every `bash` block of the README runs as it is written, in a folder that looks like the checkout from inside. */

const blocks = codeBlocks(readPage('README.md')).filter(({ language }) => language === 'bash');

async function runBlock(code: string): Promise<{ status: number | null; output: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'funcx-readme-'));
  for (const name of ['bin', 'local', 'package.json']) symlinkSync(join(ROOT, name), join(folder, name));
  const { api_url: apiUrl, python } = state();
  const child = spawn('bash', ['-euo', 'pipefail', '-c', code], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      HOME: folder,
      FUNCX_DATA_DIR: dataDir(),
      // The agent's environment holds the published SDK; the port of this system is not the usual one.
      PATH: `${dirname(python ?? '')}:${process.env.PATH}`,
      HTTP_PROXY: apiUrl,
      http_proxy: apiUrl,
    },
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const status = await new Promise<number | null>((resolve) => child.once('exit', resolve));
  return { status, output };
}

/** What a reader should see, by a word of the block. */
const EXPECTED: [contains: string, output: RegExp][] = [
  ['npm run status', /api\s+healthy/],
  ['add.py:add', /^3$[\s\S]*"value":42/m],
  ['globus_compute_sdk', /^3$/m],
  ['curl', /"ready":true[\s\S]*"name":"local"/],
];

describe('the commands of the README', () => {
  test.each(EXPECTED)('the block with "%s" runs as written and shows what it says', async (contains, expected) => {
    const found = blocks.filter(({ code }) => code.includes(contains));
    expect(found).not.toHaveLength(0);
    const { status, output } = await runBlock(found[0]!.code); // not empty, as just expected
    expect(output).toMatch(expected);
    expect(status).toBe(0);
  });

  test('no block is left out of these tests', () => {
    const untested = blocks.filter(({ code }) => !EXPECTED.some(([contains]) => code.includes(contains)));
    expect(untested).toEqual([]);
  });
});
