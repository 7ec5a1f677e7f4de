import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { Http } from '../helpers/system';

/** `retries.on` with the stock agent, which sends a traceback and no class of the exception. */

const http = new Http();
const dir = mkdtempSync(join(tmpdir(), 'funcx-stock-failures-'));
let endpoint: StockEndpoint;

beforeAll(async () => {
  endpoint = await new StockEndpoint(new StockClient(await globusVenv()), 'failures').configure();
  await endpoint.start();
}, 300_000);
afterAll(() => endpoint?.stop());

/** A function that raises at its first call and returns 2 at its second. */
const failsOnce = (raise: string): string =>
  ['def fails_once(path):', '    import os', '    if os.path.exists(path):', '        return 2', '    open(path, "w").close()']
    .concat(raise.split('\n').map((line) => `    ${line}`))
    .join('\n');

test.each([
  ['a class that the function defines', 'Busy', 'class Busy(Exception):\n    pass\nraise Busy("later")'],
  ['a message of several lines', 'ValueError', 'raise ValueError("first\\nKeyError: second\\nHINT: third")'],
  ['a note', 'OSError', 'error = OSError("away")\nerror.add_note("HINT: try again")\nraise error'],
  ['an exception group', 'ExceptionGroup', 'raise ExceptionGroup("two", [ValueError(1), KeyError(2)])'],
  ['a chain', 'LookupError', 'try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise LookupError("b") from error'],
])('%s is tried again by its name on the stock agent', async (what, name, raise) => {
  const functionId = await http.register('fails_once', failsOnce(raise));
  const path = join(dir, what.replaceAll(' ', '-'));
  const { taskIds } = await http.submit(endpoint.id, functionId, [[path]], {
    resource_specification: { funcx: { retries: { attempts: 3, backoff_s: 0.1, on: [name] } } },
  });
  expect(await http.value(taskIds[0] ?? '', 120_000)).toBe(2);
  expect(await http.task(taskIds[0] ?? '')).toMatchObject({ state: 'succeeded', attempt: 2 });
});

test('an exception with another name is not tried again on the stock agent', async () => {
  const functionId = await http.register('fails_once', failsOnce('raise ValueError("Busy: first\\nBusy")'));
  const { taskIds } = await http.submit(endpoint.id, functionId, [[join(dir, 'other')]], {
    resource_specification: { funcx: { retries: { attempts: 3, backoff_s: 0.1, on: ['Busy'] } } },
  });
  expect(await http.answer(taskIds[0] ?? '', 120_000)).toMatchObject({ state: 'failed', attempt: 1 });
});
