import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { agent104, ReleasedAgent } from '../helpers/funcx-1.0-agent';
import { finished, type Finished } from '../helpers/own-loopback';
import { admin, Agent, dataDir, Http, management, serviceEnv } from '../helpers/system';
import { until } from '../helpers/until';

/**
 * Two living agents with one id, for a minute. The one that the broker serves keeps the endpoint; the other is refused and
 * told why, so that they can't evict each other in a loop. What the service did is counted by its own log.
 */
const WATCH_MS = 60_000;
const REASON = /another agent of endpoint \S+ is (?:running|online)/;

/** Registrations of an endpoint, as the API logged them. */
function registrationsOf(id: string): { registered: number; refused: number } {
  const lines = readFileSync(join(dataDir(), 'logs', 'api.log'), 'utf8')
    .split('\n')
    .filter((line) => line.includes(id));
  const count = (text: string): number => lines.filter((line) => line.includes(`"msg":"${text}`)).length;
  return { registered: count('agent registered'), refused: count('agent refused') };
}

const connectionsOf = async (id: string): Promise<string[]> => {
  const all = (await management('connections?columns=name,user')) as { name: string; user: string }[];
  return all.filter(({ user }) => user?.includes(id)).map(({ name }) => name);
};

/** For a minute the endpoint stays online; at its end a task runs. */
async function watch(id: string): Promise<void> {
  const http = new Http();
  const end = Date.now() + WATCH_MS;
  await until(
    'the minute is over',
    async () => {
      const { body } = await http.request('GET', `/v2/endpoints/${id}/status`);
      expect(body.status).toBe('online');
      return Date.now() > end;
    },
    { deadlineMs: WATCH_MS * 2, everyMs: 1_000 },
  );
}

describe('two agents with one id', () => {
  const running: { stop(): Promise<void> }[] = [];
  afterEach(async () => {
    for (const agent of running.splice(0)) await agent.stop();
  }, 120_000);

  async function twoReleased(): Promise<[ReleasedAgent, ReleasedAgent, string]> {
    const id = randomUUID();
    const bin = await agent104();
    const both = [new ReleasedAgent(bin, id), new ReleasedAgent(bin, id)] as const;
    running.push(...both);
    return [...both, id];
  }

  test('a released agent that was cut off finds its place taken: its log says why, and it does not take it back', async () => {
    const [cutOff, successor, id] = await twoReleased();
    await (await cutOff.start()).untilOnline();
    const connections = await until('the broker lists its connections', async () => {
      const names = await connectionsOf(id);
      return names.length >= 2 ? names : undefined;
    });
    cutOff.signal('SIGSTOP');
    let before = 0;
    try {
      for (const name of connections) await management(`connections/${encodeURIComponent(name)}`, { method: 'DELETE' });
      await until('the successor may start', async () => {
        before = registrationsOf(id).refused;
        await successor.start();
        return true;
      });
    } finally {
      cutOff.signal('SIGCONT');
    }
    await successor.untilOnline();
    await watch(id);
    const { registered, refused } = registrationsOf(id);
    expect(registered).toBe(2); // one each
    // The release asks again by itself, 10 s apart and then each time a fifth longer: five times in a minute, not in a loop.
    expect(refused - before).toBeGreaterThanOrEqual(2);
    expect(refused - before).toBeLessThanOrEqual(7);
    expect(cutOff.log()).toMatch(REASON);
    expect(successor.log()).not.toMatch(REASON);
  }, 300_000);

  test('two released agents that start at the same moment: at most two registrations each, and one is told why', async () => {
    const [first, second, id] = await twoReleased();
    const start = (agent: ReleasedAgent): Promise<Finished> => agent.command('start', 'ep1', '--endpoint-uuid', id);
    const said = await Promise.all([start(first), start(second)]);
    await first.untilOnline();
    await watch(id);
    const { registered, refused } = registrationsOf(id);
    expect(registered).toBeLessThanOrEqual(4);
    expect(refused).toBeLessThanOrEqual(7);
    const told = [first, second].filter((agent, i) => REASON.test(agent.log() + said[i]?.stderr));
    expect(told).toHaveLength(1);
  }, 300_000);

  test('two agents of ours: the one that runs stays, and the other ends with the reason', async () => {
    const id = randomUUID();
    const first = await new Agent('first', { FUNCX_ENDPOINT_ID: id }).start();
    running.push(first);
    const { FUNCX_ENDPOINT_PUBLIC: _public, ...shared } = serviceEnv('endpoint');
    const owner = admin();
    const dir = mkdtempSync(join(tmpdir(), 'funcx-agent-second-'));
    const second = spawn(process.execPath, [join(__dirname, '..', '..', 'dist', 'endpoint', 'main.js')], {
      env: {
        ...process.env,
        ...shared,
        FUNCX_CLIENT_ID: owner.client_id,
        FUNCX_CLIENT_SECRET: owner.client_secret,
        FUNCX_ENDPOINT_ID: id,
        FUNCX_ENDPOINT_NAME: 'second',
        FUNCX_ENDPOINT_DIR: dir,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const { status, stderr } = await finished(second, WATCH_MS);
    expect({ status, stderr }).toEqual({ status: 78, stderr: expect.stringMatching(REASON) });
    await watch(id);
    expect(registrationsOf(id)).toEqual({ registered: 1, refused: 1 });
  }, 180_000);
});
