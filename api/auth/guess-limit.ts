import { TerminalError } from '../../contracts/errors';

/** Limits wrong secrets per address and identity, and per address: no other address locks an identity out. Per process. */
export interface GuessLimit {
  /** Throws LIMIT_EXCEEDED after too many wrong secrets. Call before checking a secret. */
  check(address: string, identity: string): void;
  failed(address: string, identity: string): void;
  succeeded(address: string, identity: string): void;
}

const PERIOD_MS = 60_000;
const MAX_PER_IDENTITY = 10;
const MAX_PER_ADDRESS = 100;
const MAX_ENTRIES = 10_000;

export function createGuessLimit(now: () => number = Date.now): GuessLimit {
  /** Wrong secrets in the current period, by key, in the order in which the periods began. */
  const wrongSecrets = new Map<string, { count: number; sinceMs: number }>();

  const current = (key: string): { count: number; sinceMs: number } | undefined => {
    const entry = wrongSecrets.get(key);
    if (entry && now() - entry.sinceMs < PERIOD_MS) return entry;
    wrongSecrets.delete(key);
    return undefined;
  };
  const keysOf = (address: string, identity: string): [string, number][] => [
    [`${address} ${identity}`, MAX_PER_IDENTITY],
    [address, MAX_PER_ADDRESS],
  ];

  return {
    check(address, identity) {
      for (const [key, limit] of keysOf(address, identity)) {
        const entry = current(key);
        if (!entry || entry.count < limit) continue;
        throw new TerminalError('LIMIT_EXCEEDED', 'too many wrong secrets; wait a minute before you try again', {
          retryAfterS: Math.max(1, (entry.sinceMs + PERIOD_MS - now()) / 1_000),
        });
      }
    },
    failed(address, identity) {
      for (const [key] of keysOf(address, identity)) {
        const entry = current(key) ?? { count: 0, sinceMs: now() };
        entry.count++;
        wrongSecrets.set(key, entry);
      }
      for (const [oldest] of wrongSecrets) {
        if (wrongSecrets.size <= MAX_ENTRIES) break;
        wrongSecrets.delete(oldest);
      }
    },
    /** The count of the address stays: an attacker may own one identity. */
    succeeded(address, identity) {
      wrongSecrets.delete(`${address} ${identity}`);
    },
  };
}
