import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { basename } from 'node:path';

import { tailOf } from '../machine/files';
import { UserError } from '../machine/user-error';
import { sendSignal } from './process-identity';

import type { ProcessRegistry } from './process-registry';

export interface CommandOptions {
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  uid?: number;
  gid?: number;
  /** The file to which the output is appended. */
  log: string;
  /** Aborted when the start of the system is given up: ends the command and all its children. */
  signal: AbortSignal;
  registry: ProcessRegistry;
}

/** Runs a command until it exits. Throws a {@link UserError} with the end of its log if it fails. */
export async function runCommand(command: string, args: string[], options: CommandOptions): Promise<void> {
  options.signal.throwIfAborted();
  const output = openSync(options.log, 'a', 0o600);
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    uid: options.uid,
    gid: options.gid,
    stdio: ['ignore', output, output],
    detached: true, // its own process group, so that all its children end with it
  });
  closeSync(output);
  const pid = child.pid;
  const identity = pid === undefined ? undefined : options.registry.add(basename(command), pid, 'SIGTERM');
  const stop = (): void => {
    if (pid !== undefined) sendSignal(-pid, 'SIGKILL');
  };
  options.signal.addEventListener('abort', stop);
  try {
    const outcome = await new Promise<number | string>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown'));
    });
    options.signal.throwIfAborted();
    if (outcome !== 0) {
      const shown = [basename(command), ...args].join(' ');
      throw new UserError(`"${shown}" failed (${outcome}). The end of ${options.log}:\n  ${tailOf(options.log)}`);
    }
  } finally {
    options.signal.removeEventListener('abort', stop);
    if (identity !== undefined) options.registry.remove(identity);
  }
}
