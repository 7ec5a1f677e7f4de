import { spawn } from 'node:child_process';
import { mkdtempSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { codeBlocks, readPage, ROOT } from './readme';
import { dataDir, state } from './system';

/** Runs what the pages for people show. */

/** A folder that looks like the checkout from inside. */
export function checkoutFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'funcx-walk-'));
  for (const name of ['bin', 'local', 'package.json']) symlinkSync(join(ROOT, name), join(folder, name));
  return folder;
}

/** Runs shell lines as a reader would, in a folder that is also the home. */
export async function runShell(code: string, folder: string): Promise<{ status: number | null; output: string }> {
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
  const status = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { status, output };
}

export interface Step {
  commands: string;
  /** Lines that the commands print, in this order; `...` stands for anything. */
  promised: string[];
}

/** The `bash` blocks of a page in order, each with the lines of the `text` block right after it. */
export function stepsOf(page: string): Step[] {
  const blocks = codeBlocks(readPage(page));
  return blocks.flatMap(({ language, code }, index) => {
    if (language !== 'bash') return [];
    const next = blocks[index + 1];
    return [{ commands: code, promised: next?.language === 'text' ? next.code.split('\n') : [] }];
  });
}

/** The first promised line that the output does not have, in order; undefined when it has all of them. */
export function missingLine(output: string, promised: readonly string[]): string | undefined {
  const lines = output.split('\n');
  let at = 0;
  for (const line of promised) {
    const pattern = new RegExp(`^${line.split('...').map(escape).join('.*')}$`);
    const found = lines.findIndex((printed, index) => index >= at && pattern.test(printed));
    if (found < 0) return line;
    at = found + 1;
  }
  return undefined;
}

const escape = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
