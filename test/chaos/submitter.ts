import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';

import { kindOf, type Call } from './calls';
import { readEvents } from './submitter-log';

/** One submitter of a run: a program in a process of its own, started again when its client cannot go on. */

export interface Program {
  command: string;
  /** Before the arguments that every submitter gets. */
  args: readonly string[];
  env: NodeJS.ProcessEnv;
}

export interface SubmitterOptions {
  name: string;
  program: Program;
  /** A fresh process with these arguments reads the answers of the task group. Default: none is needed. */
  reattach?: Program;
  languages: 'mixed' | 'python' | 'plain';
  /** This part of all tasks. */
  share: number;
  taskGroupId: string;
  /** `task`: an accepted call names its task. `workflow`: it names the pipeline. */
  accepts: 'task' | 'workflow';
  /** The client reads its answers from the queue of its task group, and settles them in this order. */
  readsQueue?: boolean;
  dir: string;
  endpointId: string;
}

/** A process of a client that its protocol document says may hang ends with this. */
const BROKEN = 3;

export class Submitter {
  readonly calls = new Map<string, Call>();
  readonly log: string;
  #child: ChildProcess | undefined;
  #exit: Promise<number | null> = Promise.resolve(0);
  #isClosing = false;
  #starts = 0;

  constructor(readonly options: SubmitterOptions) {
    this.log = join(options.dir, `${options.name}.jsonl`);
  }

  get name(): string {
    return this.options.name;
  }

  /** How often its process had to be started again. */
  get restarts(): number {
    return Math.max(0, this.#starts - 1);
  }

  /** Submits this many further calls. */
  submit(count: number): void {
    if (count === 0) return;
    const calls = Array.from({ length: count }, (): Call => {
      const number = this.calls.size;
      const call = { key: `${this.name}-${number}`, kind: kindOf(this.options.languages, number) };
      this.calls.set(call.key, call);
      return call;
    });
    if (this.#child === undefined) this.#start();
    else this.#send(calls);
  }

  /** Resolves when every call has its answer; after the deadline the process is killed and the answer is false. */
  async finish(deadlineMs: number): Promise<boolean> {
    this.#isClosing = true;
    this.#child?.stdin?.end();
    const isOver = { value: false };
    const timer = setTimeout(() => {
      isOver.value = true;
      this.#child?.kill('SIGKILL');
    }, deadlineMs);
    while (this.#child !== undefined) await this.#exit;
    clearTimeout(timer);
    return !isOver.value;
  }

  kill(): void {
    this.#isClosing = true;
    this.#child?.removeAllListeners('exit').kill('SIGKILL');
  }

  /** Calls whose future has not settled, as far as the log says. */
  unsettled(): Call[] {
    const settled = new Set(readEvents(this.log).flatMap((line) => (line.event === 'settled' ? [line.key] : [])));
    return [...this.calls.values()].filter(({ key }) => !settled.has(key));
  }

  /** Reads the answers of the whole task group in a fresh process. */
  async reattach(deadlineMs: number): Promise<void> {
    if (this.options.reattach === undefined) return;
    const child = this.#spawn(this.options.reattach);
    const timer = setTimeout(() => child.kill('SIGKILL'), deadlineMs);
    await new Promise((resolve) => child.once('exit', resolve));
    clearTimeout(timer);
  }

  /** With what nobody accepted so far; a pipeline goes on with what has no answer. */
  #start(): void {
    const child = this.#spawn(this.options.program);
    this.#starts++;
    this.#child = child;
    this.#exit = new Promise((resolve) => child.once('exit', resolve));
    child.once('exit', (code, signal) => {
      this.#child = undefined;
      if (code === 0 || signal === 'SIGKILL') return;
      if (code === BROKEN && this.#open().length === 0 && this.#isClosing) return;
      this.#start();
    });
    this.#send(this.#open());
    if (this.#isClosing) child.stdin?.end();
  }

  #open(): Call[] {
    if (this.options.accepts === 'workflow') return this.unsettled();
    const accepted = new Set(readEvents(this.log).flatMap((line) => (line.event === 'accepted' ? [line.key] : [])));
    return [...this.calls.values()].filter(({ key }) => !accepted.has(key));
  }

  #send(calls: readonly Call[]): void {
    if (calls.length > 0) this.#child?.stdin?.write(`${JSON.stringify(calls)}\n`);
  }

  #spawn({ command, args, env }: Program): ChildProcess {
    const { dir, name, endpointId, taskGroupId } = this.options;
    const output = openSync(join(dir, `${name}.log`), 'a');
    const child = spawn(command, [...args, this.log, endpointId, taskGroupId], { env, stdio: ['pipe', output, output] });
    closeSync(output);
    child.stdin?.on('error', () => undefined); // its end is seen by the exit
    return child;
  }
}
