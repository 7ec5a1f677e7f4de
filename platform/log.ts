import pino, { type Logger } from 'pino';

export type { Logger };

/** One JSON line an event on standard output. Secrets never enter a log call; credentials in URLs are removed before. */
export function createLogger(name: string, level: string): Logger {
  return pino({ name, level, base: { name, pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime });
}
