import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

import type { Layout } from '../../local/machine/layout';
import type { SystemState } from '../../local/setup/state';

/** The broker's node from inside, for what neither AMQP nor the management interface can do. */

/** Packages put it outside of the PATH, where the one in the PATH is a wrapper for root alone. */
const PROGRAMS = ['/usr/lib/rabbitmq/bin/rabbitmqctl', '/usr/sbin/rabbitmqctl'];

export interface BrokerNode {
  layout: Layout;
  state: SystemState;
}

/** Runs `rabbitmqctl` with these arguments. */
export async function rabbitmqctl({ layout, state }: BrokerNode, ...args: readonly string[]): Promise<void> {
  const program = PROGRAMS.find((path) => existsSync(path)) ?? 'rabbitmqctl';
  await promisify(execFile)(program, ['--node', `funcx-${layout.hash}@localhost`, ...args], {
    env: {
      ...process.env,
      HOME: join(layout.rabbitmqDir, 'home'),
      ERL_EPMD_PORT: String(state.ports.epmd),
      ERL_EPMD_ADDRESS: '127.0.0.1',
    },
  });
}

/** Evaluates an Erlang expression in the broker's node: for settings that have no key in its configuration. */
export const evaluateInBroker = (node: BrokerNode, expression: string): Promise<void> => rabbitmqctl(node, 'eval', expression);
