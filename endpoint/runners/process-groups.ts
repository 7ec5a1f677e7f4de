import { spawn, type ChildProcess } from 'node:child_process';

/**
 * Every worker process leads a process group of its own, so that its children end with it.
 *
 * A guard, one small `sh`, knows the groups too: when the agent dies, however it dies, the guard's pipe closes and it kills
 * them. Without it, a kill -9 of the agent would leave running calls and their children behind.
 */

/** From SIGTERM to SIGKILL. */
const KILL_AFTER_MS = 2_000;

/** Keeps the set of groups in one string; `read` ends with the pipe. */
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
  /** What the guard runs; its input is lines of `add GROUP` and `del GROUP`. */
  static readonly guardScript = GUARD_SCRIPT;
  readonly #groups = new Set<number>();
  /** Groups that were told to end, until SIGKILL is due. */
  readonly #stopping = new Map<number, NodeJS.Timeout>();
  #guard: ChildProcess | undefined;
  #isClosed = false;

  /** The group of a process that was started with `detached: true`. */
  add(group: number): void {
    this.#groups.add(group);
    this.#tell(`add ${group}\n`);
  }

  /** Its leader has exited. What it left behind is killed; in a group told to stop, when its grace is over. */
  leaderExited(group: number): void {
    if (this.#stopping.has(group) && signalGroup(group, 0)) return;
    this.#end(group);
  }

  /** SIGTERM for the whole group, and SIGKILL a little later for what is left of it. */
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

  /** Ends the guard. Call it when all groups are gone. */
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
    guard.on('error', () => undefined); // 'close' does not follow a failed spawn; the next add tries again
    guard.stdin?.on('error', () => undefined); // a guard that was killed is replaced on 'exit'
    guard.once('exit', () => {
      if (this.#guard === guard) this.#guard = undefined;
      if (!this.#isClosed && this.#groups.size > 0) this.#startGuard();
    });
    guard.unref();
    for (const group of this.#groups) guard.stdin?.write(`add ${group}\n`);
  }
}

/** False when the group has no process. */
function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, signal);
  } catch {
    return false; // ESRCH: the group is gone, which is what was wanted
  }
}
