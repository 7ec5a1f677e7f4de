import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import type { Layout } from '../../local/machine/layout';
import type { SystemState } from '../../local/setup/state';

/** The broker's node from inside, for what neither AMQP nor the management interface can do. */

/** Packages put it outside of the PATH, where the one in the PATH is a wrapper for root alone. */
const PROGRAMS = ['/usr/lib/rabbitmq/bin/rabbitmqctl', '/usr/sbin/rabbitmqctl'];

export interface BrokerNode {
  layout: Layout;
  state: SystemState;
}

/** Runs `rabbitmqctl` with these arguments; returns what it printed. */
export function rabbitmqctl({ layout, state }: BrokerNode, ...args: string[]): string {
  const program = PROGRAMS.find((path) => existsSync(path)) ?? 'rabbitmqctl';
  const node = `funcx-${layout.hash}@localhost`;
  const { status, stdout, stderr } = spawnSync(program, ['--node', node, ...args], {
    encoding: 'utf8',
    env: {
      ...process.env,
      HOME: join(layout.rabbitmqDir, 'home'),
      ERL_EPMD_PORT: String(state.ports.epmd),
      ERL_EPMD_ADDRESS: '127.0.0.1',
    },
  });
  if (status !== 0) throw new Error(`rabbitmqctl ${args.join(' ')} failed: ${stdout}${stderr}`);
  return stdout;
}

/** Evaluates an Erlang expression in the broker's node: for settings that have no key in its configuration. */
export function evaluateInBroker(node: BrokerNode, expression: string): void {
  rabbitmqctl(node, 'eval', expression);
}
