import type { IncomingMessage } from 'node:http';

/** The funcX release of a request, from `User-Agent: globus-sdk-py-<v>/funcx-sdk-<version>`. Agents send the same header. */

export interface Release {
  /** Major, minor and patch number, such as [1, 0, 4]. */
  version: readonly number[];
  /** True up to 1.0.4, which reads results from the WebSocket; later releases read AMQP. */
  readsSocket: boolean;
  /** True for agents 1.0.2 to 1.0.6, which register again while running and do not log why they are refused. */
  registersAgain: boolean;
}

const FIRST_WITH_AMQP = [1, 0, 5];
const FIRST_THAT_REGISTERS_AGAIN = [1, 0, 2];
const FIRST_THAT_DOES_NOT = [1, 0, 7];

export function releaseOf(req: IncomingMessage): Release | undefined {
  const match = /(?:^|[/ ])funcx-sdk-([0-9]+)\.([0-9]+)\.([0-9]+)/.exec(req.headers['user-agent'] ?? '');
  if (!match) return undefined;
  const version = match.slice(1, 4).map(Number);
  return {
    version,
    readsSocket: isBefore(version, FIRST_WITH_AMQP),
    registersAgain: isBefore(version, FIRST_THAT_DOES_NOT) && !isBefore(version, FIRST_THAT_REGISTERS_AGAIN),
  };
}

function isBefore(a: readonly number[], b: readonly number[]): boolean {
  const index = a.findIndex((part, at) => part !== b[at]);
  return index >= 0 && (a[index] ?? 0) < (b[index] ?? 0);
}
