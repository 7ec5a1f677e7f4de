import { spawn, type ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Duplex } from 'node:stream';

import { z } from 'zod';

import { confine, type Confinement } from './confinement';
import { encodeWorkerFrame, FrameReader, type WorkerFrame } from './frames';
import { OutputFiles, type Output } from './output-files';
import type { ProcessGroups } from './process-groups';
import type { ControlGroup } from './limits';
import type { OwnerFolder, OwnerFolders } from './owner-folders';
import { failure, nowNs, type Call, type Outcome } from './runner';

/**
 * A process that runs calls of one owner, one at a time.
 *
 * | process state | entered by | left by |
 * |---|---|---|
 * | starting | spawn | its ready frame -> idle; exit -> gone |
 * | idle | its ready frame, an answer | a call -> busy; exit -> gone |
 * | busy | a call | its answer -> idle, or dying if the answer has `last`; exit -> gone, the call is lost |
 * | dying | `stop`, a last answer | exit -> gone; takes no call |
 *
 * It has no owner until `serve`, and the same owner from then on.
 */

export interface WorkerProcessOptions {
  /** Used in messages, such as `Python worker`. */
  title: string;
  command: string;
  args: string[];
  env: NodeJS.ProcessEnv;
  confinement: Confinement;
  folders: OwnerFolders;
  /** File descriptor of the log of workers: output that a worker prints before it is ready and between calls. */
  logFd: number;
  groups: ProcessGroups;
  /** Path of the file behind `logFd`; a message quotes it when a worker cannot start. */
  logPath: string;
  /** Explains an exit that the function itself caused. Returns undefined if the worker was lost for another reason. */
  explainExit?: (code: number | null, signal: NodeJS.Signals | null) => string | undefined;
  hostname: string;
  log: { warn(fields: object, text: string): void };
}

const PIPE_FD = 3;
const LOG_FD = 4;
/** Workers refuse a result of more than twice as many UTF-16 units as it may have characters. */
const MAX_BYTES_PER_CHAR = 6;
/** More than the text of an error can have. */
const MAX_TEXT_BYTES = 1024 * 1024;
/** How much one worker may add to the log in a second. */
const MAX_LOG_BYTES_PER_S = 4 * 1024 * 1024;
/** How long the end of a process waits for the rest of its log, which a forked child may keep open. */
const LOG_GRACE_MS = 100;
/** How much of a worker's output a message quotes if the worker does not start. */
const QUOTE_BYTES = 4_096;
const QUOTE_LINES = 4;

const readySchema = z.object({ ready: z.literal(true), details: z.record(z.string(), z.unknown()) });
const answerSchema = z.object({
  start_ns: z.number(),
  end_ns: z.number(),
  error: z.object({ code: z.string(), user_message: z.string(), exception: z.array(z.string()).optional() }).optional(),
  interrupted: z.boolean().optional(),
  value: z.record(z.string(), z.unknown()).optional(),
  output: z.object({ stdout: z.string(), stderr: z.string() }).optional(),
  /** The process ends after this answer. */
  last: z.boolean().optional(),
});

export function exitSentence(code: number | null, signal: NodeJS.Signals | null): string {
  return signal ? `was ended by ${signal}` : `exited with code ${code ?? 'unknown'}`;
}

export class WorkerProcess {
  readonly ready: Promise<void>;
  readonly exited: Promise<void>;
  wasReady = false;
  isDying = false;
  hasExited = false;
  readonly #child: ChildProcess;
  readonly #pipe: Duplex;
  readonly #reader = new FrameReader();
  readonly #output: OutputFiles;
  #details: Record<string, unknown> = {};
  #onReady: ((error?: Error) => void) | undefined;
  #pending: { call: Call; startedNs: number; resolve: (outcome: Outcome) => void } | undefined;
  #owner: string | undefined;
  /** Sent to the process with its next call. */
  #folder: OwnerFolder | undefined;

  constructor(private readonly options: WorkerProcessOptions) {
    const { logFd, confinement, folders } = options;
    const place = folders.placeOf();
    const { command, args, ...user } = confine(confinement, options.command, options.args, place);
    const logStart = fs.fstatSync(logFd).size;
    this.#output = new OutputFiles(path.dirname(options.logPath), confinement.user);
    const { stdout, stderr } = this.#output;
    // detached: the process leads its own group, so that its children can be ended with it
    this.#child = spawn(command, args, {
      ...user,
      cwd: place.cwd,
      env: { ...options.env, ...place.env },
      detached: true,
      // Not the log itself: function code would see, or remove, what functions of other owners have printed.
      stdio: ['ignore', stdout, stderr, 'pipe', 'pipe'],
    });
    const group = this.#limit();
    this.#pipe = this.#child.stdio[PIPE_FD] as Duplex; // 'pipe' above
    const whenLogged = copyToLog(this.#child.stdio[LOG_FD] as Duplex | undefined, logFd);
    this.ready = new Promise((resolve, reject) => (this.#onReady = (error) => (error ? reject(error) : resolve())));
    this.ready.catch(() => undefined); // a call awaits it again
    this.exited = new Promise((resolve) => {
      const onEnd = (sentence: string, explained?: string): void => {
        if (this.hasExited) return;
        this.hasExited = true;
        this.isDying = true;
        this.#pipe?.destroy();
        if (this.#child.pid) options.groups.leaderExited(this.#child.pid);
        const output = this.#pending ? this.#output.take() : undefined;
        this.#output.close(logFd);
        this.#onReady?.(
          new Error(
            `The ${options.title} on ${options.hostname} ${sentence} before it was ready.${quoteOf(options.logPath, logStart)}`,
          ),
        );
        this.#lose(sentence, group?.ranOutOfMemory === true ? memorySentence(confinement) : explained, output);
        group?.end();
        folders.placeLeft(place);
        void whenLogged().then(resolve);
      };
      this.#child.once('error', (error) => onEnd(`could not be started (${error.message})`));
      this.#child.once('exit', (code, signal) => {
        // The pipe may still hold its answer: read to the end. Wait only briefly, as a forked child may keep the pipe open.
        const end = (): void => onEnd(exitSentence(code, signal), this.isDying ? undefined : options.explainExit?.(code, signal));
        if (!this.#pending || this.isDying) return end();
        const timer = setTimeout(end, 200);
        this.#pipe.once('close', () => {
          clearTimeout(timer);
          end();
        });
      });
    });
    if (this.#child.pid) options.groups.add(this.#child.pid);
    this.#pipe?.on('error', () => undefined); // 'exit' follows
    this.#pipe?.on('data', (chunk: Buffer) => {
      try {
        for (const frame of this.#reader.push(chunk)) this.#onFrame(frame);
      } catch (error) {
        options.log.warn({ reason: String(error) }, `the ${options.title} sent invalid output and is replaced`);
        this.stop(0);
      }
    });
  }

  get owner(): string | undefined {
    return this.#owner;
  }

  /** From now on, the process takes only calls of this owner. Throws if the folders of the owner cannot be created. */
  serve(owner: string): void {
    if (this.#owner !== undefined) throw new Error('a worker process serves one owner');
    this.#folder = this.options.folders.folderOf(owner);
    this.#owner = owner;
  }

  call(call: Call, body: string): Promise<Outcome> {
    if (call.owner !== this.#owner) throw new Error('a worker process got a call of another owner');
    if (this.#pending) throw new Error('a worker process runs one call at a time');
    return new Promise((resolve) => {
      this.#pending = { call, startedNs: nowNs(), resolve };
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) return; // 'exit' is about to be emitted
      this.#reader.maxBodyBytes = MAX_BYTES_PER_CHAR * call.maxResultChars + MAX_TEXT_BYTES;
      const header = {
        task_id: call.taskId,
        max_result_chars: call.maxResultChars,
        result_serializers: call.resultSerializers,
        ...(this.#folder ? { folder: { run_dir: this.#folder.runDir, tmp_dir: this.#folder.tmpDir } } : {}),
      };
      this.#folder = undefined;
      this.#pipe.write(encodeWorkerFrame(header, body));
    });
  }

  stop(graceMs?: number): void {
    this.isDying = true;
    if (this.#child.pid) this.options.groups.stop(this.#child.pid, graceMs);
  }

  #limit(): ControlGroup | undefined {
    const { limits, controlGroups } = this.options.confinement;
    if (limits === undefined || !this.#child.pid) return undefined;
    try {
      return controlGroups?.add(this.#child.pid, limits);
    } catch (error) {
      this.options.log.warn({ reason: String(error) }, `could not set the limits of a ${this.options.title}; ending it`);
      this.#child.kill('SIGKILL');
      return undefined;
    }
  }

  #onFrame(frame: WorkerFrame): void {
    if (this.#onReady) {
      this.#details = readySchema.parse(frame.header).details;
      this.wasReady = true;
      this.#onReady();
      this.#onReady = undefined;
      return;
    }
    const pending = this.#pending;
    if (!pending) return; // the answer of a call that is already lost
    const answer = answerSchema.parse(frame.header);
    const { start_ns: startedNs, end_ns: endedNs, error, interrupted: isInterrupted, value, output } = answer;
    if (answer.last) this.isDying = true;
    this.#pending = undefined;
    pending.resolve({
      data: frame.body,
      startedNs,
      endedNs,
      details: this.#detailsWith({ value, output }),
      ...(error ? { error: { code: error.code, userMessage: error.user_message, classes: error.exception } } : {}),
      isInterrupted,
    });
  }

  #detailsWith(more: { value?: unknown; output?: unknown }): Record<string, unknown> {
    const given = Object.entries(more).filter(([, value]) => value !== undefined);
    return given.length === 0 ? this.#details : { ...this.#details, ...Object.fromEntries(given) };
  }

  #lose(sentence: string, explained: string | undefined, output: Output | undefined): void {
    const pending = this.#pending;
    if (!pending) return;
    this.#pending = undefined;
    if (explained !== undefined) {
      pending.resolve({
        ...failure('RemoteExecutionError', explained, pending.startedNs),
        details: this.#detailsWith({ output }),
      });
      return;
    }
    const text = `The ${this.options.title} on ${this.options.hostname} ${sentence} while it ran task ${pending.call.taskId}.`;
    const details = this.#detailsWith({ output });
    pending.resolve({ ...failure('WorkerLost', text, pending.startedNs), details, isLost: true });
  }
}

/** Appends to the log what a process writes to its descriptor. Call the returned function at the end of the process. */
function copyToLog(pipe: Duplex | undefined, logFd: number): () => Promise<void> {
  if (!pipe) return async () => undefined; // the process could not be started
  let bytes = 0;
  const timer = setInterval(() => {
    bytes = 0;
    pipe.resume();
  }, 1_000).unref();
  pipe.on('error', () => undefined); // 'close' follows
  pipe.on('data', (chunk: Buffer) => {
    fs.writeSync(logFd, chunk);
    bytes += chunk.length;
    if (bytes > MAX_LOG_BYTES_PER_S) pipe.pause();
  });
  const closed = new Promise<void>((resolve) => pipe.once('close', resolve));
  return async () => {
    const grace = setTimeout(() => pipe.destroy(), LOG_GRACE_MS);
    await closed;
    clearTimeout(grace);
    clearInterval(timer);
  };
}

function memorySentence({ limits }: Confinement): string {
  const limit = Math.round((limits?.memoryBytes ?? 0) / 2 ** 20);
  return `OutOfMemory: the function used more memory than the endpoint allows (${limit} MB).\n`;
}

/** Quotes the last lines that were written to a file after `start`. */
function quoteOf(file: string, start: number): string {
  const fd = fs.openSync(file, 'r');
  const { size } = fs.fstatSync(fd);
  const bytes = Buffer.alloc(Math.min(Math.max(size - start, 0), QUOTE_BYTES));
  fs.readSync(fd, bytes, 0, bytes.length, size - bytes.length);
  fs.closeSync(fd);
  const lines = bytes.toString('utf8').trimEnd().split('\n').slice(-QUOTE_LINES);
  return bytes.length === 0 ? ` See ${file}.` : ` From ${file}:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}
