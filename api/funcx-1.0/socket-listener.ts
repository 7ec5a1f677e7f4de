import type { WebSocket } from 'ws';

import { ensureError } from '../../contracts/errors';
import type { SocketFailure, SocketResult } from '../../contracts/http/funcx-1.0';
import { uuidSchema } from '../../contracts/http/v1';
import type { Identity } from '../../platform/access';
import type { Logger } from '../../platform/log';
import type { Database } from '../../platform/store/database';
import { listGroupResults, type GroupResultRow } from '../../platform/store/tasks';
import type { GroupWatch } from '../group-watch';
import { groupResult } from '../results';
import type { TakenCursor } from './taken-cursor';

/**
 * One client on the results socket. It sends ids of task groups and gets their answers in the order of the group's
 * sequence, from where the group was left.
 *
 * The client acknowledges nothing, but its library answers pings in order: each page of results is followed by a ping,
 * and the pong proves that the results arrived. What was not proved is sent again on the next connection.
 *
 *   open --stop--> draining (no more results; waits for pongs) --> closing (1001) --> closed
 *   open --the client closes, or goes away--> closed
 */
export interface SocketListener {
  /** Says 1001 once what was sent has arrived, or after a while. Resolves when the connection is closed. */
  stop(): Promise<void>;
}

export interface ListenerDeps {
  db: Database;
  log: Logger;
  groupWatch: GroupWatch;
  taken: TakenCursor;
}

/** The client connects again at once on these two; on any other code its futures hang for ever. */
const NORMAL = 1000;
const GOING_AWAY = 1001;

const PAGE = 100;
const WAIT_MS = 30_000;
const PAUSE_MS = 500;
const DRAIN_MS = 2_000;
const CLOSE_MS = 2_000;
const BEAT_MS = 30_000;
/** The client drops the connection at a larger frame. */
const MAX_FRAME_BYTES = 11 * 1024 * 1024;

export function serveListener(socket: WebSocket, identity: Promise<Identity | undefined>, deps: ListenerDeps): SocketListener {
  const stopping = new AbortController();
  /** The last sequence number that was sent, by group. */
  const sent = new Map<string, number>();
  const loops = new Set<Promise<void>>();
  const pings = new Map<number, { groupId: string; seq: number }>();
  let lastPing = 0;
  let isClosing = false;
  let isAlive = true;

  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const beat = setInterval(() => {
    if (!isAlive) socket.terminate();
    isAlive = false;
    socket.ping();
  }, BEAT_MS);

  socket.on('error', (error) => deps.log.debug({ reason: error.message }, 'a results socket failed'));
  socket.on('pong', (data) => {
    isAlive = true;
    const upTo = Number(data.toString('latin1'));
    for (const [id, { groupId, seq }] of pings) {
      if (id > upTo) break;
      deps.taken.advance(groupId, seq);
      pings.delete(id);
    }
  });
  socket.on('message', (data: Buffer) => {
    isAlive = true;
    void identity
      .then((who) => subscribe(who, data.toString('utf8')))
      .catch((error: unknown) => fail('The service could not check who you are; connect again.', error));
  });
  socket.once('close', (code) => {
    clearInterval(beat);
    stopping.abort();
    // The echo of our own close frame comes after everything that was sent before it.
    if (isClosing && (code === NORMAL || code === GOING_AWAY)) sent.forEach((seq, groupId) => deps.taken.advance(groupId, seq));
  });

  function subscribe(who: Identity | undefined, text: string): void {
    if (!who) return fail('The access token is unknown, expired or revoked; log in again and make a new client.');
    const parsed = uuidSchema.safeParse(text.trim());
    if (!parsed.success) return fail('The results socket takes ids of task groups, one a message.');
    if (sent.has(parsed.data)) return;
    sent.set(parsed.data, 0);
    const loop: Promise<void> = deliver(who, parsed.data).finally(() => loops.delete(loop));
    loops.add(loop);
  }

  /** Until the socket or the service stops. */
  async function deliver(who: Identity, groupId: string): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        const group = await deps.taken.read(groupId);
        if (group && group.ownerId !== who.id) return fail(`Task group ${groupId} belongs to somebody else.`);
        // Of an unknown group the first answer may still come.
        const after = Math.max(sent.get(groupId) ?? 0, group?.seq ?? 0);
        const seq = group ? await sendPage(groupId, after) : after;
        if (seq === after) await deps.groupWatch.waitFor(groupId, after, WAIT_MS, stopping.signal);
      } catch (error) {
        if (stopping.signal.aborted) return;
        deps.log.warn({ err: error, groupId }, 'results could not be sent over the socket; trying again');
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  }

  /** Sends what follows; returns the last sequence number that was sent. */
  async function sendPage(groupId: string, after: number): Promise<number> {
    let seq = after;
    for (const row of await listGroupResults(deps.db, groupId, after, PAGE)) {
      if (stopping.signal.aborted) break;
      await send(resultText(row));
      seq = row.seq;
      sent.set(groupId, seq);
    }
    if (seq > after) ping(groupId, seq);
    return seq;
  }

  function send(text: string): Promise<void> {
    return new Promise((resolve, reject) => socket.send(text, (error) => (error ? reject(ensureError(error)) : resolve())));
  }

  function ping(groupId: string, seq: number): void {
    pings.set(++lastPing, { groupId, seq });
    socket.ping(String(lastPing));
  }

  /** The client gives up its futures and says why, where a refused handshake would leave them hanging. */
  function fail(text: string, cause?: unknown): void {
    deps.log.debug({ reason: text, err: cause }, 'a results socket was refused');
    const failure: SocketFailure = { exception: text };
    socket.send(JSON.stringify(failure), () => socket.close(NORMAL));
  }

  return {
    async stop() {
      stopping.abort();
      await Promise.all(loops);
      await untilAnswered();
      isClosing = true;
      socket.close(GOING_AWAY);
      await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, CLOSE_MS).unref())]);
      socket.terminate();
    },
  };

  async function untilAnswered(): Promise<void> {
    const deadline = Date.now() + DRAIN_MS;
    while (pings.size > 0 && socket.readyState === socket.OPEN && Date.now() < deadline) {
      await Promise.race([closed, new Promise((resolve) => socket.once('pong', resolve)), new Promise((r) => setTimeout(r, 50))]);
    }
  }
}

function resultText(row: GroupResultRow): string {
  const { task_id, status, result, exception, completion_t } = groupResult(row);
  const message: SocketResult = {
    task_id,
    status,
    ...(result === undefined ? {} : { result }),
    ...(exception === undefined ? {} : { exception }),
    completion_t,
  };
  const text = JSON.stringify(message);
  if (Buffer.byteLength(text) < MAX_FRAME_BYTES) return text;
  const tooLarge = `The result of task ${task_id} is too large for this connection; read it with FuncXClient.get_result.`;
  return JSON.stringify({ task_id, status: 'failed', exception: tooLarge, completion_t } satisfies SocketResult);
}
