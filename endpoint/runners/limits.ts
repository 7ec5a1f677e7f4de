import fs from 'node:fs';
import path from 'node:path';

/**
 * What one worker, with its children, may use. Where the agent may make control groups (cgroups v2), memory and processes
 * are limited for the worker and its children together; else the kernel's limits of single processes hold.
 */
export interface WorkerLimits {
  memoryBytes?: number;
  processes?: number;
  openFiles?: number;
  /** The largest file that a function may write. */
  fileBytes?: number;
}

/** A program that starts another one within limits of the kernel; `sh` of every system has them under one of two names. */
export function limitedCommand(limits: WorkerLimits, groups: ControlGroups | undefined): string[] {
  const { memoryBytes, processes, openFiles, fileBytes } = limits;
  const settings = [
    // A JavaScript engine reserves far more addresses than it uses: its runner limits its heap instead.
    ...(memoryBytes === undefined || groups !== undefined ? [] : [`ulimit -v ${Math.ceil(memoryBytes / 1024)}`]),
    ...(processes === undefined || groups !== undefined
      ? []
      : [`{ ulimit -u ${processes} 2>/dev/null || ulimit -p ${processes}; }`]),
    ...(openFiles === undefined ? [] : [`ulimit -n ${openFiles}`]),
    ...(fileBytes === undefined ? [] : [`ulimit -f ${Math.ceil(fileBytes / 512)}`]),
  ];
  return settings.length === 0 ? [] : ['/bin/sh', '-c', `${settings.join(' && ')} && exec "$@"`, 'sh'];
}

const CGROUP_ROOT = '/sys/fs/cgroup';

/** The control groups of an agent's workers. */
export class ControlGroups {
  #count = 0;

  private constructor(private readonly folder: string) {}

  /** Undefined where this process may make none. `root` and `self` are for tests. */
  static open(root = CGROUP_ROOT, self = '/proc/self/cgroup'): ControlGroups | undefined {
    try {
      const own = /^0::(.*)$/m.exec(fs.readFileSync(self, 'utf8'))?.[1];
      if (own === undefined) return undefined;
      const folder = path.join(root, own);
      const controllers = fs.readFileSync(path.join(folder, 'cgroup.controllers'), 'utf8').split(/\s/);
      if (!controllers.includes('memory') || !controllers.includes('pids')) return undefined;
      // A group with groups below it has no processes of its own.
      fs.mkdirSync(path.join(folder, 'agent'), { recursive: true });
      fs.writeFileSync(path.join(folder, 'agent', 'cgroup.procs'), String(process.pid));
      fs.writeFileSync(path.join(folder, 'cgroup.subtree_control'), '+memory +pids');
      return new ControlGroups(folder);
    } catch {
      return undefined; // not ours to change
    }
  }

  /** Puts a worker that was just started into a group of its own. */
  add(pid: number, { memoryBytes, processes }: WorkerLimits): ControlGroup {
    const folder = path.join(this.folder, `worker-${process.pid}-${++this.#count}`);
    fs.mkdirSync(folder);
    if (memoryBytes !== undefined) {
      fs.writeFileSync(path.join(folder, 'memory.max'), String(memoryBytes));
      tryToWrite(path.join(folder, 'memory.swap.max'), '0'); // absent where the kernel does not count swap
    }
    if (processes !== undefined) fs.writeFileSync(path.join(folder, 'pids.max'), String(processes));
    fs.writeFileSync(path.join(folder, 'cgroup.procs'), String(pid));
    return new ControlGroup(folder);
  }
}

export class ControlGroup {
  constructor(private readonly folder: string) {}

  /** True if the kernel ended a process of the group because its memory was full. */
  get ranOutOfMemory(): boolean {
    try {
      return /^oom_kill [1-9]/m.test(fs.readFileSync(path.join(this.folder, 'memory.events'), 'utf8'));
    } catch {
      return false;
    }
  }

  /** Ends what is left in the group, also what has left the worker's process group, and removes it. */
  end(): void {
    tryToWrite(path.join(this.folder, 'cgroup.kill'), '1');
    const remove = (tries: number): void => {
      fs.rmdir(this.folder, (error) => {
        if (error?.code === 'EBUSY' && tries > 0) setTimeout(() => remove(tries - 1), 100).unref();
      });
    };
    remove(20);
  }
}

function tryToWrite(file: string, text: string): void {
  try {
    fs.writeFileSync(file, text);
  } catch {
    // not known to this kernel
  }
}
