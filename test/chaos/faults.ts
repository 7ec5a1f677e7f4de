import { setTimeout as delay } from 'node:timers/promises';

import { alarmFor, BACK_MS, freezeFor } from '../helpers/engine-faults';
import { isAlive, pidOf, state } from '../helpers/system';
import { until } from '../helpers/until';
import type { Part, Step } from './plan';
import type { SmallDisks } from './small-disks';

/** Does one step of a plan to the running system and waits until the part serves again. */

export async function inflict({ part, fault, holdMs }: Step, disks: SmallDisks | undefined): Promise<void> {
  switch (fault) {
    case 'kill':
      return endAndAwaitNext(part, 'SIGKILL');
    case 'restart':
      // PostgreSQL waits for its clients at SIGTERM and ends them at SIGINT.
      return endAndAwaitNext(part, part === 'postgres' ? 'SIGINT' : 'SIGTERM');
    case 'freeze':
      return freezeFor(part, holdMs);
    case 'memory alarm':
      return alarmFor('memory', holdMs);
    case 'disk alarm':
      return alarmFor('disk', holdMs);
    case 'full disk':
      return fillFor(part, holdMs, disks);
  }
}

/** Waits until every part is ready and its process is alive. */
export async function untilAllServe(): Promise<void> {
  await until(
    'every part serves',
    () => state().services.every((service) => service.state === 'ready' && service.pid !== null && isAlive(service.pid)),
    { deadlineMs: BACK_MS },
  );
}

async function endAndAwaitNext(part: Part, signal: NodeJS.Signals): Promise<void> {
  await untilAllServe();
  const before = pidOf(part);
  process.kill(before, signal);
  await until(
    `${part} serves again`,
    () =>
      state().services.some(({ name, pid, state: now }) => name === part && pid !== null && pid !== before && now === 'ready'),
    { deadlineMs: BACK_MS },
  );
}

async function fillFor(part: Part, holdMs: number, disks: SmallDisks | undefined): Promise<void> {
  if (disks === undefined) throw new Error('there are no disks to fill; the plan must not ask for it');
  disks.fill(part);
  try {
    await delay(holdMs);
  } finally {
    disks.empty(part);
  }
}
