import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

import { UserError } from '../machine/user-error';
import { findBasePython } from '../processes/python';

const PROGRAM = join(__dirname, 'own-network.py');
const PROBE_MS = 10_000;
/** The first of the file descriptors that {@link inOwnNetwork} passes on. */
export const FIRST_DESCRIPTOR = 3;

/**
 * Returns the command that runs a program in its own network namespace. Sockets that listen on `ports` of this machine's
 * loopback become the program's file descriptors from {@link FIRST_DESCRIPTOR} on. The program has the process ID of the command.
 */
export function inOwnNetwork(ports: number[], command: string, args: string[]): { command: string; args: string[] } {
  return { command: findBasePython().path, args: ['-I', PROGRAM, ports.join(','), command, ...args] };
}

/** Throws a {@link UserError} if this user cannot create a network namespace. */
export function requireOwnNetwork(): void {
  const reason = refusal();
  if (reason === undefined) return;
  throw new UserError(
    `--shared-host runs Temporal in a network namespace, but ${reason}. Run "up" as root, let ordinary users create ` +
      'namespaces, or set TEMPORAL_ADDRESS to a Temporal server with a login.',
  );
}

function refusal(): string | undefined {
  if (process.platform !== 'linux') return 'only Linux has network namespaces';
  const { command, args } = inOwnNetwork([], 'true', []);
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8', timeout: PROBE_MS });
  if (status === 0) return undefined;
  return error?.message ?? (stderr.trim().split('\n').at(-1) || `${command} ended with exit code ${status}`);
}
