import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { flowsVenv, FlowsUser } from '../helpers/flow-clients';
import { until } from '../helpers/until';

/** The Globus CLI, unmodified, with a client's credentials. */

let user: FlowsUser;
beforeAll(async () => {
  user = new FlowsUser(await flowsVenv());
}, 300_000);

function file(name: string, value: unknown): string {
  const path = join(user.dir, name);
  writeFileSync(path, JSON.stringify(value));
  return path;
}

test('globus flows creates, validates, starts, shows, cancels and deletes', async () => {
  const definition = file('definition.json', { StartAt: 'W', States: { W: { Type: 'Wait', SecondsPath: '$.s', End: true } } });
  const schema = file('schema.json', { type: 'object', required: ['s'] });
  expect(await user.globus('flows', 'validate', definition)).toMatchObject({ scopes: { User: [] } });
  const { id } = await user.globus('flows', 'create', 'from the CLI', definition, '--input-schema', schema);
  expect((await user.globus('flows', 'show', id)).title).toBe('from the CLI');
  expect((await user.globus('flows', 'update', id, '--title', 'renamed')).title).toBe('renamed');
  expect((await user.globus('flows', 'list')).flows.map((flow: { id: string }) => flow.id)).toContain(id);

  const { run_id: run } = await user.globus('flows', 'start', id, '--input', '{"s": 1}', '--label', 'quick');
  await until('the run is over', async () => (await user.globus('flows', 'run', 'show', run)).status === 'SUCCEEDED');
  const logs = await user.globus('flows', 'run', 'show-logs', run);
  expect(logs.entries.map((entry: { code: string }) => entry.code)).toEqual([
    'FlowStarted',
    'WaitStarted',
    'WaitCompleted',
    'FlowSucceeded',
  ]);
  expect((await user.globus('flows', 'run', 'show-definition', run)).flow_id).toBe(id);
  expect((await user.globus('flows', 'run', 'update', run, '--label', 'slow')).label).toBe('slow');
  expect((await user.globus('flows', 'run', 'list')).runs.map((one: { run_id: string }) => one.run_id)).toContain(run);
  await user.globus('flows', 'run', 'delete', run);

  const { run_id: sleeper } = await user.globus('flows', 'start', id, '--input', '{"s": 600}');
  await user.globus('flows', 'run', 'cancel', sleeper);
  await until('the run is cancelled', async () => (await user.globus('flows', 'run', 'show', sleeper)).status === 'FAILED');
  expect((await user.globus('flows', 'delete', id)).DELETED).toBe(true);
}, 300_000);

test('globus flows tells an error by its code and message', async () => {
  const broken = file('broken.json', { StartAt: 'A', States: { A: { Type: 'Pass', Next: 'Nowhere' } } });
  const { status, stderr } = await user.run('globus', ['flows', 'create', 'broken', broken]);
  expect(status).not.toBe(0);
  expect(stderr).toMatch(/UNPROCESSABLE_ENTITY[\s\S]*Nowhere/);
  const missing = await user.run('globus', ['flows', 'run', 'show', '00000000-0000-4000-8000-000000000000']);
  expect(missing.stderr).toContain('NOT_FOUND');
}, 120_000);
