import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { state, pidOf, Http, localEndpoint } from '../helpers/system';
import { until } from '../helpers/until';

/** An engine that hangs is worse than one that is gone: nothing refuses, everything waits. */

const ENGINES = ['postgres', 'temporal', 'rabbitmq'] as const;
const NOTICED_MS = 5_000;

interface Readiness {
  ready: boolean;
  engines: Record<string, { ok: boolean; reason?: string }>;
}

async function ask(port: number): Promise<{ status: number; body: Readiness; retryAfter: string | null }> {
  const response = await fetch(`http://127.0.0.1:${port}/readyz`);
  return {
    status: response.status,
    body: (await response.json()) as Readiness,
    retryAfter: response.headers.get('retry-after'),
  };
}

const ports = (): Record<string, number> => ({ api: state().ports.api, workers: state().ports.workersHealth });

const untilReady = (port: number): Promise<unknown> =>
  until('it is ready', async () => ((await ask(port)).status === 200 ? true : undefined), { deadlineMs: 60_000 });

describe('/readyz', () => {
  afterEach(async () => {
    for (const engine of ENGINES) process.kill(pidOf(engine), 'SIGCONT');
    for (const port of Object.values(ports())) await untilReady(port);
  });

  for (const engine of ENGINES) {
    test(`of the API and of the workers names ${engine} within 5 s when it hangs, and heals when it goes on`, async () => {
      for (const port of Object.values(ports())) await untilReady(port);
      const pid = pidOf(engine);
      process.kill(pid, 'SIGSTOP');
      const begun = Date.now();
      await Promise.all(
        Object.entries(ports()).map(async ([name, port]) => {
          const { body, retryAfter } = await until(
            `${name} notices`,
            async () => {
              const answer = await ask(port);
              return answer.status === 503 ? answer : undefined;
            },
            { deadlineMs: NOTICED_MS },
          );
          expect(Date.now() - begun).toBeLessThan(NOTICED_MS + 1_000);
          expect(body.ready).toBe(false);
          expect(body.engines[engine]).toEqual({ ok: false, reason: expect.stringContaining(engine) });
          if (name === 'api') expect(Number(retryAfter)).toBeGreaterThan(0);
        }),
      );
      process.kill(pid, 'SIGCONT');
      for (const port of Object.values(ports())) await untilReady(port);
      expect(pidOf(engine)).toBe(pid);
      const http = new Http();
      const functionId = await http.register('after', 'def after():\n    return "still here"\n');
      const taskId = await http.submitOne(localEndpoint(), functionId, []);
      expect(await http.value(taskId)).toBe('still here');
    });
  }
});

test('a process may stand still for longer than five seconds in the middle of a step of a workflow', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', PRINT_THREAD_SETUP, state().temporal_address], {
    cwd: join(__dirname, '..', '..'),
    timeout: 60_000,
  });
  expect(JSON.parse(stdout)).toEqual({ type: 'init' }); // without a timeout
});

/** In a process of its own, as the service makes its workers. Prints what the SDK tells the thread that runs workflows. */
const PRINT_THREAD_SETUP = `
  const { NativeConnection } = require('@temporalio/worker');
  const { createWorker } = require('./dist/platform/temporal-workers');
  require('node:worker_threads').Worker.prototype.postMessage = ({ input: { type, isolateExecutionTimeoutMs } }) =>
    process.stdout.write(JSON.stringify({ type, isolateExecutionTimeoutMs }), () => process.exit(0));
  (async () => {
    const connection = await NativeConnection.connect({ address: process.argv[1] });
    const setup = { connection, identity: 'unused', namespace: 'default', taskQueue: 'unused', payloadCodecs: [], activities: { unused() {} } };
    await createWorker({ ...setup, maxCachedWorkflows: 2, maxConcurrentActivities: 2 });
  })();`;
