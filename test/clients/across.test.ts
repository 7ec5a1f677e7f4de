import { randomUUID } from 'node:crypto';

import { agent104, ReleasedAgent } from '../helpers/funcx-1.0-agent';
import { globusVenv, StockClient } from '../helpers/stock-globus';

/** Clients of one release with agents of another. The funcX 1.0 SDK with our agent is in `funcx-1.0-sdk.test.ts`. */

let agent: ReleasedAgent;
beforeAll(async () => {
  agent = await (await new ReleasedAgent(await agent104(), randomUUID()).start()).untilOnline();
}, 600_000);
afterAll(() => agent?.stop());

test('the Globus SDK 4.19 on the released agent 1.0.4: source code runs, and what that agent cannot read is refused', async () => {
  const client = new StockClient(await globusVenv());
  const seen = (await client.script('on_released_agent.py', [agent.id], { timeoutMs: 240_000 })) as Record<string, unknown>;
  const refused = (what: RegExp): unknown =>
    expect.stringMatching(
      new RegExp(`^ComputeAPIError: .* 422, .*${what.source}.*cannot read; serialize code with DillCodeSource`, 's'),
    );
  const byDill = refused(/the code of function \S+ was serialized by the dill of globus-compute-sdk 4\.19\.0/);
  expect(seen).toEqual({
    DillCodeSource: 42,
    DillCodeTextInspect: 42,
    'a function that raises': expect.stringMatching(/^TaskExecutionFailed: .*ValueError: no/s),
    // Its default: made by a later dill than the agent has.
    DillCode: byDill,
    CombinedCode: byDill,
    'by default': byDill,
    // These came later.
    PureSourceTextInspect: refused(/serialized as "st"/),
    PureSourceDill: refused(/serialized as "sd"/),
    AllCodeStrategies: refused(/serialized as "12"/),
    JSONData: refused(/the payload of task 1 is serialized as "11"/),
  });
}, 300_000);
