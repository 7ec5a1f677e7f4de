import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { commandQueueName } from '../../contracts/names';
import { Agent, isAlive, management } from '../helpers/system';
import { until } from '../helpers/until';

/** A stop command names the incarnation of the agent that must stop. Agents of other incarnations read the same queue. */

const agent = new Agent(`stopped-${randomUUID().slice(0, 8)}`);
afterAll(() => agent.stop());

async function sendStop(incarnation: string, reason: string): Promise<void> {
  const body = {
    properties: {},
    routing_key: commandQueueName(agent.id),
    payload: JSON.stringify({ command: 'stop', incarnation, reason }),
    payload_encoding: 'string',
  };
  const { routed } = await management('exchanges/funcx/amq.default/publish', { method: 'POST', body: JSON.stringify(body) });
  expect(routed).toBe(true);
}

test('an agent ignores the stop of another incarnation, and obeys the stop of its own', async () => {
  await agent.start();
  const { incarnation } = JSON.parse(readFileSync(join(agent.dir, 'status.json'), 'utf8')) as { incarnation: string };
  const pid = agent.pid;
  // A queue keeps its order: an agent that obeyed the first command would name its reason.
  await sendStop(randomUUID(), 'meant for another agent');
  await sendStop(incarnation, 'meant for this agent');
  await until('the agent has ended', () => !isAlive(pid));
  const log = readFileSync(join(agent.dir, 'agent.log'), 'utf8');
  expect(log).toContain('meant for this agent');
  expect(log).not.toContain('meant for another agent');
});
