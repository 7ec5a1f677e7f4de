import { readFileSync } from 'node:fs';

import { treeOf } from './engine-faults';

/** CPU time of processes: unlike a duration, it hardly depends on what else the machine does. */

const TICKS_PER_S = 100;

/** Seconds of CPU that these processes and their descendants have used. */
export function cpuSecondsOf(roots: readonly number[]): number {
  let ticks = 0;
  for (const pid of new Set(roots.flatMap(treeOf))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      // Its own, and those of children that have ended.
      ticks += [11, 12, 13, 14].reduce((sum, field) => sum + Number(fields[field]), 0);
    } catch {
      // It ended meanwhile.
    }
  }
  return ticks / TICKS_PER_S;
}
