import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { layoutOf } from '../../local/machine/layout';
import { evaluateInBroker } from '../helpers/broker-node';
import { dataDir, funcx, localEndpoint, pidOf, state } from '../helpers/system';
import { until } from '../helpers/until';

/** A node whose disk was full runs on, keeps its connections and passes its health checks, and delivers nothing any more. */

test('rabbitmq is started again when its quorum queues have ended, as after a full disk', async () => {
  const before = pidOf('rabbitmq');
  // The supervisor of the queues gives up after several deaths of the log that all of them share.
  const dies = 'case whereis(ra_log_wal) of undefined -> none; P -> exit(P, kill) end';
  evaluateInBroker(
    { layout: layoutOf(dataDir()), state: state() },
    `[begin ${dies}, timer:sleep(5) end || _ <- lists:seq(1, 60)].`,
  );
  await until('another process serves', () => pidOf('rabbitmq') !== before && funcx(['status']).status === 0, {
    everyMs: 500,
    deadlineMs: 60_000,
  });
  expect(readFileSync(join(dataDir(), 'logs', 'supervisor.log'), 'utf8')).toContain('rabbitmq runs but does not serve');
  const folder = mkdtempSync(join(tmpdir(), 'funcx-add-'));
  try {
    const file = join(folder, 'add.py');
    writeFileSync(file, 'def add(a, b):\n    return a + b\n');
    const { status, stdout } = funcx(['run', `${file}:add`, '--endpoint', localEndpoint(), '--args', '[1, 2]', '--json']);
    expect({ status, value: (JSON.parse(stdout) as { value: unknown }).value }).toEqual({ status: 0, value: 3 });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 120_000);
