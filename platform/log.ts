import pino, { type Logger } from 'pino';

export type { Logger };

/** Writes one JSON line per event to standard output. Callers must not log secrets or URLs with credentials. */
export function createLogger(name: string, level: string): Logger {
  return pino({ name, level, base: { name, pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime });
}
