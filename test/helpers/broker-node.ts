import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import type { OwnSystem } from './own-system';

/** Packages put it outside of the PATH, where the one in the PATH is a wrapper for root alone. */
const PROGRAMS = ['/usr/lib/rabbitmq/bin/rabbitmqctl', '/usr/sbin/rabbitmqctl'];

/** Evaluates an Erlang expression in the broker's node: for settings that have no key in its configuration. */
export function evaluateInBroker({ layout, state }: OwnSystem, expression: string): void {
  const program = PROGRAMS.find((path) => existsSync(path)) ?? 'rabbitmqctl';
  const node = `funcx-${layout.hash}@localhost`;
  const { status, stdout, stderr } = spawnSync(program, ['--node', node, 'eval', expression], {
    encoding: 'utf8',
    env: {
      ...process.env,
      HOME: join(layout.rabbitmqDir, 'home'),
      ERL_EPMD_PORT: String(state.ports.epmd),
      ERL_EPMD_ADDRESS: '127.0.0.1',
    },
  });
  if (status !== 0) throw new Error(`the broker's node did not evaluate ${expression}: ${stdout}${stderr}`);
}
