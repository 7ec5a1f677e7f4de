import type { IncomingMessage } from 'node:http';

/** Which release calls: `User-Agent: globus-sdk-py-<v>/funcx-sdk-<version>`. The agents use the same client. */

export interface Release {
  /** Such as [1, 0, 4]. */
  version: readonly number[];
  /** Up to 1.0.4 results come over the WebSocket, from 1.0.5 on over AMQP. */
  readsSocket: boolean;
  /** Agents of 1.0.2 to 1.0.6: a running one registers again by itself, and does not log why it is refused. */
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
