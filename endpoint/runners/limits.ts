import fs from 'node:fs';
import path from 'node:path';

/** Limits of one worker: with its children by control groups (cgroups v2) if the agent may create them, else by `ulimit`. */
export interface WorkerLimits {
  memoryBytes?: number;
  processes?: number;
  openFiles?: number;
  /** The largest file that a function may write. */
  fileBytes?: number;
}

/** Returns a command prefix that runs a program within limits of the kernel. The name of a limit depends on the `sh`. */
export function limitedCommand(limits: WorkerLimits, groups: ControlGroups | undefined): string[] {
  const { memoryBytes, processes, openFiles, fileBytes } = limits;
  const settings = [
    // The JavaScript pool passes no memory limit: V8 reserves far more addresses than it uses, so its heap is limited instead.
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

export class ControlGroups {
  #count = 0;

  private constructor(private readonly folder: string) {}

  /** Returns undefined if this process may not create control groups. `root` and `self` are for tests. */
  static open(root = CGROUP_ROOT, self = '/proc/self/cgroup'): ControlGroups | undefined {
    try {
      const own = /^0::(.*)$/m.exec(fs.readFileSync(self, 'utf8'))?.[1];
      if (own === undefined) return undefined;
      const folder = path.join(root, own);
      const controllers = fs.readFileSync(path.join(folder, 'cgroup.controllers'), 'utf8').split(/\s/);
      if (!controllers.includes('memory') || !controllers.includes('pids')) return undefined;
      // A group that has subgroups with controllers must not contain processes, so the agent moves into a subgroup.
      fs.mkdirSync(path.join(folder, 'agent'), { recursive: true });
      fs.writeFileSync(path.join(folder, 'agent', 'cgroup.procs'), String(process.pid));
      fs.writeFileSync(path.join(folder, 'cgroup.subtree_control'), '+memory +pids');
      return new ControlGroups(folder);
    } catch {
      return undefined; // this process may not change its control group
    }
  }

  /** Moves a worker that was just started into a new group. */
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

  /** True if the kernel killed a process of the group because the memory limit was reached. */
  get ranOutOfMemory(): boolean {
    try {
      return /^oom_kill [1-9]/m.test(fs.readFileSync(path.join(this.folder, 'memory.events'), 'utf8'));
    } catch {
      return false;
    }
  }

  /** Kills all processes in the group, including those that left the worker's process group, and removes the group. */
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
