import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';

import { z } from 'zod';

import { BUFFER, unpackBuffers } from '../../contracts/packing';

import { confine, type Confinement, type Place } from './confinement';
import { MAX_OUTPUT_BYTES } from './output-files';
import type { OwnerFolders } from './owner-folders';
import type { ProcessGroups } from './process-groups';
import { failure, nowNs, type Call, type Outcome, type Readiness, type Runner } from './runner';

/**
 * Runs shell functions (`name:template`). Each call runs in a `/bin/sh` with its own process group.
 *
 * `{0}` and `{name}` in the template are replaced by the shell-quoted argument; `{{name}}` is a literal `{name}`. All other
 * braces and `${VAR}` are left to the shell. Background processes of a call end with the call.
 */

/** How much of the end of each stream is kept. Errors are usually at the end. */
const SNIPPET_BYTES = 1024 * 1024;
const STDERR_TAIL_CHARS = 4_000;
/** How long a finished call waits for streams that background processes keep open. */
const STREAM_GRACE_MS = 200;

const argsSchema = z.array(z.unknown());
const kwargsSchema = z.record(z.string(), z.unknown());

export interface ShellRunnerOptions {
  env: NodeJS.ProcessEnv;
  confinement: Confinement;
  folders: OwnerFolders;
  groups: ProcessGroups;
  hostname: string;
}

export class ShellRunner implements Runner {
  #child: ChildProcess | undefined;
  #isStopped = false;

  constructor(private readonly options: ShellRunnerOptions) {}

  readinessFor(): Readiness {
    return 'ready';
  }

  prepareFor(): void {
    // not needed, see warm
  }

  warm(): void {
    // a shell starts in a millisecond
  }

  async whyNotReady(): Promise<undefined> {
    return undefined;
  }

  async run(call: Call): Promise<Outcome> {
    let cmd: string;
    try {
      cmd = commandOf(call.buffer);
    } catch (error) {
      return failure('InvalidTask', `Task ${call.taskId} cannot be run: ${String(error)}`);
    }
    return this.#execute(call, cmd);
  }

  stop(): void {
    this.#isStopped = true;
    if (this.#child?.pid) this.options.groups.stop(this.#child.pid);
  }

  async close(graceMs: number): Promise<void> {
    const child = this.#child;
    if (!child?.pid) return;
    this.#isStopped = true;
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    this.options.groups.stop(child.pid, graceMs);
    await exited;
  }

  async #execute(call: Call, cmd: string): Promise<Outcome> {
    const startedNs = nowNs();
    this.#isStopped = false;
    const { confinement, folders } = this.options;
    let place: Place;
    try {
      place = folders.placeOf(call.owner);
    } catch (error) {
      return failure('EndpointFailed', `No folder could be created for the shell: ${String(error)}`, startedNs);
    }
    const { command, args, ...user } = confine(confinement, '/bin/sh', ['-c', cmd], place);
    const child = spawn(command, args, {
      ...user,
      cwd: place.cwd,
      env: { ...this.options.env, ...place.env, GC_TASK_UUID: call.taskId },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    if (child.pid) this.options.groups.add(child.pid);
    const group = child.pid && confinement.limits ? confinement.controlGroups?.add(child.pid, confinement.limits) : undefined;
    const stdout = new Snippet(child.stdout);
    const stderr = new Snippet(child.stderr);
    const end = await new Promise<{ code: number | null; signal: NodeJS.Signals | null } | Error>((resolve) => {
      child.once('error', resolve);
      child.once('exit', (code, signal) => {
        const timer = setTimeout(() => resolve({ code, signal }), STREAM_GRACE_MS);
        child.once('close', () => {
          clearTimeout(timer);
          resolve({ code, signal });
        });
      });
    });
    this.#child = undefined;
    child.stdout.destroy();
    child.stderr.destroy();
    if (child.pid) this.options.groups.leaderExited(child.pid);
    group?.end();
    folders.placeLeft(place);
    if (end instanceof Error) return failure('EndpointFailed', `No shell could be started: ${end.message}`, startedNs);
    if (this.#isStopped) {
      const sentence = `The shell on ${this.options.hostname} was stopped while it ran task ${call.taskId}.`;
      return { ...failure('WorkerLost', sentence, startedNs), isLost: true };
    }
    // As a shell reports it: 128 plus the number of the signal.
    const returncode = end.code ?? 128 + (end.signal === null ? 0 : constants.signals[end.signal]);
    if (returncode === 0) {
      const result = { returncode, stdout: stdout.text(), stderr: stderr.text(), cmd };
      return { data: `${BUFFER.json}\n${JSON.stringify(result)}`, startedNs, endedNs: nowNs() };
    }
    const how = end.signal ? `was ended by ${end.signal}` : `exited with code ${returncode}`;
    const text = `${stderr.text().slice(-STDERR_TAIL_CHARS).trimEnd()}\nShellCommandFailed: the command ${how}: ${cmd.slice(0, 500)}\n`;
    const userMessage = `The shell command ${how}.`;
    // The end of stderr is already in the text.
    const printed = stdout.text(MAX_OUTPUT_BYTES);
    return {
      data: text.trimStart(),
      error: { code: 'RemoteExecutionError', userMessage },
      ...(printed === '' ? {} : { details: { output: { stdout: printed, stderr: '' } } }),
      exitCode: returncode,
      startedNs,
      endedNs: nowNs(),
    };
  }
}

/** The last {@link SNIPPET_BYTES} of a stream. */
class Snippet {
  #chunks: Buffer[] = [];
  #length = 0;

  constructor(stream: Readable) {
    stream.on('error', () => undefined); // destroyed at the end
    stream.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#length += chunk.length;
      if (this.#length > 2 * SNIPPET_BYTES) this.#cut();
    });
  }

  text(maxBytes = SNIPPET_BYTES): string {
    this.#cut();
    return Buffer.concat(this.#chunks).subarray(-maxBytes).toString('utf8');
  }

  #cut(): void {
    if (this.#length <= SNIPPET_BYTES) return;
    this.#chunks = [Buffer.concat(this.#chunks).subarray(-SNIPPET_BYTES)];
    this.#length = SNIPPET_BYTES;
  }
}

function commandOf(buffer: string): string {
  const [code, args, kwargs] = unpackBuffers(buffer);
  if (code?.identifier !== BUFFER.shell) throw new SyntaxError('the first buffer is not a shell template');
  if (args?.identifier !== BUFFER.json || kwargs?.identifier !== BUFFER.json) {
    throw new SyntaxError('shell functions take only arguments that are JSON');
  }
  const template = code.body.slice(code.body.indexOf(':') + 1);
  return formatCommand(template, argsSchema.parse(JSON.parse(args.body)), kwargsSchema.parse(JSON.parse(kwargs.body)));
}

/** Replaces the placeholders of a template by shell-quoted arguments. Throws if a placeholder has no argument. */
export function formatCommand(template: string, args: readonly unknown[], kwargs: Readonly<Record<string, unknown>>): string {
  return template.replace(
    /\{(\{[A-Za-z0-9_]+\})\}|(?<!\$)\{([A-Za-z_]\w*|\d+)\}/g,
    (_match, literal: string | undefined, name: string | undefined) => {
      if (literal !== undefined) return literal;
      const key = name ?? ''; // one of the two groups matched
      const isIndex = /^\d/.test(key);
      if (isIndex ? Number(key) >= args.length : !Object.hasOwn(kwargs, key)) {
        throw new SyntaxError(`no argument for the placeholder {${key}}`);
      }
      return quoteValue(isIndex ? args[Number(key)] : kwargs[key]);
    },
  );
}

function quoteValue(value: unknown): string {
  if (Array.isArray(value)) return value.map(quoteValue).join(' ');
  return quote(typeof value === 'string' ? value : JSON.stringify(value));
}

function quote(text: string): string {
  if (/^[A-Za-z0-9_./:=@%+,-]+$/.test(text)) return text;
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
