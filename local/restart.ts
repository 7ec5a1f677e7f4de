import { setTimeout as delay } from 'node:timers/promises';

import { layoutOf } from './machine/layout';
import { UserError } from './machine/user-error';
import { sendSignal } from './processes/process-identity';
import { livingSupervisor, readState } from './setup/state';

import type { ReplicatedService } from './setup/options';
import type { ServiceState } from './setup/state';

const POLL_MS = 100;
const READY_MS = 120_000;

/** Replaces the processes one by one, successor first. Throws a {@link UserError} if none runs or a successor fails. */
export async function restart(dataDir: string, service: ReplicatedService): Promise<void> {
  const layout = layoutOf(dataDir);
  if (livingSupervisor(layout) === undefined)
    throw new UserError(`The system in ${dataDir} is not running; start it with "npm run up".`);
  const read = (): ServiceState[] =>
    (readState(layout)?.services ?? []).filter(({ name }) => name === service || name.startsWith(`${service}-`));
  for (const { name, pid } of read()) {
    if (pid === null) throw new UserError(`${name} is not running; see its log.`);
    sendSignal(pid, 'SIGTERM');
    const deadline = Date.now() + READY_MS;
    const isReplaced = (): boolean =>
      read().some((one) => one.name === name && one.pid !== null && one.pid !== pid && one.state === 'ready');
    while (!isReplaced()) {
      if (Date.now() > deadline)
        throw new UserError(`The successor of ${name} does not serve; see ${layout.logsDir}/${name}.log.`);
      await delay(POLL_MS);
    }
    process.stdout.write(`${name} is restarted\n`);
  }
}
