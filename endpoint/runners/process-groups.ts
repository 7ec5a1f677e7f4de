import { spawn, type ChildProcess } from 'node:child_process';

/**
 * Every worker process leads its own process group, so that its children end with it.
 *
 * A guard, one small `sh`, also knows the groups. When the agent dies for any reason, the guard's pipe closes and the guard kills
 * the groups. Without a guard, a kill -9 of the agent would leave running calls and their children behind.
 */

/** Time from SIGTERM to SIGKILL. */
const KILL_AFTER_MS = 2_000;

/** Keeps the set of groups in one string. The loop ends when the pipe closes. */
const GUARD_SCRIPT = `
trap '' INT TERM HUP
groups=' '
while read -r verb group; do
  case $verb in
    add) groups="$groups$group " ;;
    del) case $groups in *" $group "*) groups="\${groups%% $group *} \${groups#* $group }" ;; esac ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
`;

export class ProcessGroups {
  /** The script of the guard. It reads lines of `add GROUP` and `del GROUP`. */
  static readonly guardScript = GUARD_SCRIPT;
  readonly #groups = new Set<number>();
  /** Groups that received SIGTERM, each with the timer of its SIGKILL. */
  readonly #stopping = new Map<number, NodeJS.Timeout>();
  #guard: ChildProcess | undefined;
  #isClosed = false;

  /** Adds the group of a process that was started with `detached: true`. */
  add(group: number): void {
    this.#groups.add(group);
    this.#tell(`add ${group}\n`);
  }

  /** Call it when the leader has exited. Kills the remaining processes; in a group that is stopping, after the grace time. */
  leaderExited(group: number): void {
    if (this.#stopping.has(group) && signalGroup(group, 0)) return;
    this.#end(group);
  }

  /** Sends SIGTERM to the whole group, and after the grace time SIGKILL to the remaining processes. */
  stop(group: number, graceMs = KILL_AFTER_MS): void {
    if (!this.#groups.has(group)) return;
    if (graceMs <= 0) {
      signalGroup(group, 'SIGKILL');
      return;
    }
    if (this.#stopping.has(group)) return;
    signalGroup(group, 'SIGTERM');
    this.#stopping.set(
      group,
      setTimeout(() => this.#end(group), graceMs),
    );
  }

  #end(group: number): void {
    clearTimeout(this.#stopping.get(group));
    this.#stopping.delete(group);
    signalGroup(group, 'SIGKILL');
    if (this.#groups.delete(group)) this.#tell(`del ${group}\n`);
  }

  close(): void {
    this.#isClosed = true;
    for (const group of [...this.#groups]) this.#end(group);
    this.#guard?.stdin?.end();
  }

  #tell(line: string): void {
    if (this.#isClosed) return;
    if (!this.#guard) this.#startGuard();
    else this.#guard.stdin?.write(line);
  }

  #startGuard(): void {
    const guard = spawn('/bin/sh', ['-c', GUARD_SCRIPT], { detached: true, stdio: ['pipe', 'ignore', 'ignore'], env: {} });
    this.#guard = guard;
    guard.on('error', () => {
      // After a failed spawn there is no 'exit': the next group starts another guard.
      if (guard.pid === undefined && this.#guard === guard) this.#guard = undefined;
    });
    guard.stdin?.on('error', () => undefined); // a guard that was killed is replaced when it emits 'exit'
    guard.once('exit', () => {
      if (this.#guard === guard) this.#guard = undefined;
      if (!this.#isClosed && this.#groups.size > 0) this.#startGuard();
    });
    guard.unref();
    for (const group of this.#groups) guard.stdin?.write(`add ${group}\n`);
  }
}

/** Returns false if the group has no process. */
function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, signal);
  } catch {
    return false; // ESRCH: the group has ended already
  }
}
