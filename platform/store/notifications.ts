import { setTimeout as delay } from 'node:timers/promises';

import { Client } from 'pg';

import type { Logger } from '../log';
import type { Database } from './database';
import { WITHOUT_FLUSH } from './without-flush';

/** Messages between processes by PostgreSQL's LISTEN and NOTIFY. A message may be lost, so receivers must also poll. */
export interface Notifications {
  isListening(): boolean;
  /** Sends to every process that listens on the channel, including this one. Never throws. */
  send(payload: string): void;
  close(): Promise<void>;
}

/** The channel for free places in the windows of endpoint queues, see `activities/free-places.ts`. */
export const PLACES_CHANNEL = 'funcx_places';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
const KEEPALIVE_DELAY_MS = 5_000;

/** Listens on a separate connection, outside the pool, and reconnects when the connection is lost. */
export function createNotifications(
  db: Database,
  channel: string,
  log: Logger,
  onMessage: (payload: string) => void,
): Notifications {
  const stop = new AbortController();
  let current: Client | undefined;
  let isListening = false;

  async function listen(): Promise<void> {
    const client = new Client({ ...db.options, keepAlive: true, keepAliveInitialDelayMillis: KEEPALIVE_DELAY_MS });
    current = client;
    const ended = new Promise<void>((resolve) => client.once('end', resolve));
    client.on('error', (error) => log.debug({ reason: error.message, channel }, 'a listening connection was lost'));
    client.on('notification', ({ payload }) => onMessage(payload ?? ''));
    try {
      await client.connect();
      await client.query(`listen ${client.escapeIdentifier(channel)}`);
      isListening = true;
      await ended;
    } finally {
      isListening = false;
      void client.end().catch(() => undefined); // it is already closed, or was never opened
    }
  }

  const running = (async () => {
    let pauseMs = FIRST_PAUSE_MS;
    while (!stop.signal.aborted) {
      const startedMs = Date.now();
      await listen().catch((error: unknown) => log.debug({ err: error, channel }, 'cannot listen to the store; trying again'));
      pauseMs = Date.now() - startedMs > LONGEST_PAUSE_MS ? FIRST_PAUSE_MS : Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
      await delay(pauseMs, undefined, { signal: stop.signal }).catch(() => undefined); // closing ends the pause
    }
  })();

  return {
    isListening: () => isListening,
    send(payload) {
      db.query({ name: 'notify', text: `select pg_notify($1, $2) from ${WITHOUT_FLUSH}`, values: [channel, payload] }).catch(
        (error: unknown) => log.debug({ err: error, channel }, 'a message to the other processes was not sent'),
      );
    },
    async close() {
      stop.abort();
      await current?.end().catch(() => undefined); // it may have ended already
      await running;
    },
  };
}
