import { readFileSync } from 'node:fs';

import type { MeasuredSystem } from './system';

/** Memory and CPU of the processes of the system, with their children, from /proc. */

const TICKS_PER_S = 100;
const MEBIBYTE = 2 ** 20;

export interface Usage {
  memoryMb: number;
  cpuS: number;
}

/** Returns the usage of each process by its name. */
export function usageOf(system: MeasuredSystem): Map<string, Usage> {
  return new Map([...system.processes()].map(([name, pid]) => [name, sum(treeOf(pid).map(readUsage))]));
}

function readUsage(pid: number): Usage {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    const [user, kernel] = [Number(fields[11]), Number(fields[12])];
    const proportional = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'));
    return { memoryMb: (Number(proportional?.[1] ?? 0) * 1_024) / MEBIBYTE, cpuS: (user + kernel) / TICKS_PER_S };
  } catch {
    return { memoryMb: 0, cpuS: 0 }; // the process has just ended
  }
}

function treeOf(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
    return [pid, ...children.flatMap(treeOf)];
  } catch {
    return [];
  }
}

function sum(usages: readonly Usage[]): Usage {
  return usages.reduce((total, { memoryMb, cpuS }) => ({ memoryMb: total.memoryMb + memoryMb, cpuS: total.cpuS + cpuS }), {
    memoryMb: 0,
    cpuS: 0,
  });
}
