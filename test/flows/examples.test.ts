import { join } from 'node:path';

import { flowsVenv, FlowsUser } from '../helpers/flow-clients';
import { funcx, Http, localEndpoint } from '../helpers/system';
import { until } from '../helpers/until';

/** The examples as their page says. */

const EXAMPLES = join(__dirname, '..', '..', 'examples', 'flows');

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers of every shape
function command(...args: string[]): any {
  const { status, stdout, stderr } = funcx([...args, '--json'], {}, 120_000);
  if (status !== 0) throw new Error(`funcx ${args.join(' ')} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout);
}

test('the flow by hand grows a value until it is large enough, and funcx shows its steps', () => {
  const { function_id: fn } = command('function', 'register', `${join(EXAMPLES, 'grow.py')}:grow`);
  command('flow', 'deploy', join(EXAMPLES, 'grow.yaml'));
  const input = JSON.stringify({ n: 3, limit: 20, endpoint: localEndpoint(), function: fn });
  const run = command('flow', 'run', 'grow', '--input', input);
  expect(run).toMatchObject({ status: 'SUCCEEDED', details: { output: { n: 24 } } });
  const shown = funcx(['flow', 'show', run.run_id as string]).stdout;
  expect(shown.match(/✓ Grow +Action/g)).toHaveLength(3);
  expect(funcx(['flow', 'show', 'grow', '--svg']).stdout).toMatch(/^<svg [\s\S]*GiveUp[\s\S]*<\/svg>\n$/);
});

test('the Gladier example prints its answer', async () => {
  const user = new FlowsUser(await flowsVenv());
  const { status, stdout, stderr } = await user.run('python', [join(EXAMPLES, 'gladier_client.py'), localEndpoint()], {
    timeoutMs: 120_000,
  });
  expect([status, stdout.trimEnd().split('\n').at(-1), status === 0 ? '' : stderr]).toEqual([0, '"6 words"', '']);
}, 300_000);

test('the scheduled example runs when its schedule is triggered', async () => {
  const { id } = command('flow', 'deploy', join(EXAMPLES, 'scheduled.yaml'));
  const made = command('schedule', 'create', 'tick', '--flow', 'scheduled', '--every', '1d', '--input', '{"n": 7}');
  command('schedule', 'trigger', 'tick');
  await until('the run is over', () => command('flow', 'list', '--flow', id).runs[0]?.status === 'SUCCEEDED' || undefined);
  expect(command('flow', 'list', '--flow', id).runs[0].details.output.note).toEqual({ ran: 'run 7' });
  await new Http().ok('DELETE', `/v1/schedules/${made.schedule_id}`);
});
