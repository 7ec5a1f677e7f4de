import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { runScript, sdk104 } from '../helpers/funcx-1.0';

const SCRIPT = join(__dirname, 'scripts', 'funcx_1_0_surface.py');

test('every public name of the classes of SDK 1.0.4 does what the client expects', async () => {
  const { status, stdout, stderr } = await runScript(await sdk104(), readFileSync(SCRIPT, 'utf8'), { deadlineMs: 150_000 });
  expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
  const seen = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Record<string, Record<string, unknown>>;
  const failed = Object.entries(seen).flatMap(([name, rows]) =>
    Object.entries(rows).flatMap(([row, outcome]) => (outcome === true ? [] : [`${name}.${row}: ${String(outcome)}`])),
  );
  expect(failed).toEqual([]);
  expect(Object.keys(seen)).toEqual(['FuncXClient', 'FuncXExecutor', 'FuncxWebClient']);
}, 300_000);
