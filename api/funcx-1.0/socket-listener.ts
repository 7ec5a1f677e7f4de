import { setMaxListeners } from 'node:events';

import type { WebSocket } from 'ws';

import type { FollowedGroup, Quotas } from '../../accepting/quotas';
import { ensureError, TerminalError, type ErrorCode } from '../../contracts/errors';
import type { SocketFailure, SocketResult } from '../../contracts/http/funcx-1.0';
import { uuidSchema } from '../../contracts/http/v1';
import type { Identity } from '../../platform/access';
import type { Logger } from '../../platform/log';
import type { Database } from '../../platform/store/database';
import { listGroupResults, type GroupResultRow } from '../../platform/store/tasks';
import type { GroupWatch } from '../group-watch';
import type { RevocationWatch } from '../revocation-watch';
import { groupResult } from '../results';
import type { TakenCursor } from './taken-cursor';

/**
 * One client of the results socket. It sends task group IDs and gets their results in the order of the group's sequence
 * numbers, from the last acknowledged one.
 *
 * The client does not acknowledge results, but its library answers pings in order. A ping follows each page of results, and
 * its pong proves that the results arrived. The next connection repeats results without this proof.
 *
 *   open --stop--> draining (no more results; waits for pongs) --> closing (1001) --> closed
 *   open --the client closes or disconnects--> closed
 */
export interface SocketListener {
  /** Closes with 1001 once the sent results have arrived, or after DRAIN_MS. Resolves when the connection is closed. */
  stop(): Promise<void>;
}

export type OnRefused = (code: ErrorCode, who: Identity | undefined, objects?: Record<string, string>) => void;

export interface ListenerDeps {
  db: Database;
  log: Logger;
  groupWatch: GroupWatch;
  taken: TakenCursor;
  revocations: RevocationWatch;
  quotas: Pick<Quotas, 'followGroup'>;
}

/** The client reconnects after these two codes; after any other code its futures stay pending forever. */
const NORMAL = 1000;
const GOING_AWAY = 1001;

const NO_VALID_TOKEN = 'The access token is missing, unknown, expired or revoked. Log in again and create a new client.';
const CANNOT_CHECK = 'The service could not check the access token. Connect again.';

const PAGE = 100;
const WAIT_MS = 30_000;
const PAUSE_MS = 500;
const DRAIN_MS = 2_000;
const CLOSE_MS = 2_000;
const PING_INTERVAL_MS = 30_000;
const MAX_GROUPS = 1_000;
/** How long a client without a valid token may stay connected without a message. */
const FIRST_MESSAGE_MS = 10_000;
/** The client closes the connection when it receives a larger frame. */
const MAX_FRAME_BYTES = 11 * 1024 * 1024;

export function serveListener(
  socket: WebSocket,
  identity: Promise<Identity | undefined>,
  deps: ListenerDeps,
  onRefused: OnRefused,
): SocketListener {
  const stopping = new AbortController();
  setMaxListeners(0, stopping.signal); // every task group of the connection listens
  /** Last sent sequence number, by task group. */
  const sent = new Map<string, number>();
  const loops = new Set<Promise<void>>();
  const places: FollowedGroup[] = [];
  const pings = new Map<number, { groupId: string; seq: number }>();
  let unwatch = (): void => undefined;
  let lastPing = 0;
  let isClosing = false;
  let isRefused = false;
  let isAlive = true;

  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const pinger = setInterval(() => {
    if (!isAlive) socket.terminate();
    isAlive = false;
    socket.ping();
  }, PING_INTERVAL_MS);

  const firstMessage = setTimeout(() => {
    void identity.then((who) => who || refuse('UNAUTHENTICATED', who, NO_VALID_TOKEN)).catch(onUnknownIdentity);
  }, FIRST_MESSAGE_MS);
  void identity
    .then((who) => {
      if (!who || socket.readyState !== socket.OPEN) return;
      const sentence = 'Your identity or its token was revoked, or the token has expired. Log in again, or ask an administrator.';
      unwatch = deps.revocations.watch(who, () => refuse('UNAUTHENTICATED', who, sentence));
    })
    .catch(() => undefined); // The first message reports the failure.

  socket.on('error', (error) => deps.log.debug({ reason: error.message }, 'connection error on the results socket'));
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
    void identity.then((who) => subscribe(who, data.toString('utf8'))).catch(onUnknownIdentity);
  });
  socket.once('close', (code) => {
    clearInterval(pinger);
    clearTimeout(firstMessage);
    unwatch();
    stopping.abort();
    for (const place of places) place.leave();
    // The client echoes our close frame after it has read everything before it.
    if (isClosing && (code === NORMAL || code === GOING_AWAY)) sent.forEach((seq, groupId) => deps.taken.advance(groupId, seq));
  });

  function onUnknownIdentity(error: unknown): void {
    if (error instanceof TerminalError) refuse(error.code, undefined, error.message);
    else fail(CANNOT_CHECK, error);
  }

  function subscribe(who: Identity | undefined, text: string): void {
    if (stopping.signal.aborted) return;
    if (!who) return refuse('UNAUTHENTICATED', who, NO_VALID_TOKEN);
    const parsed = uuidSchema.safeParse(text.trim());
    if (!parsed.success) return refuse('INVALID_REQUEST', who, 'A message on the results socket must be a task group ID.');
    if (sent.has(parsed.data)) return;
    if (sent.size >= MAX_GROUPS) {
      return refuse('LIMIT_EXCEEDED', who, `A connection of the results socket takes at most ${MAX_GROUPS} task groups.`);
    }
    sent.set(parsed.data, 0);
    const loop: Promise<void> = deliver(who, parsed.data).finally(() => loops.delete(loop));
    loops.add(loop);
  }

  function takePlace(who: Identity): FollowedGroup {
    const place = deps.quotas.followGroup(who.id);
    places.push(place);
    return place;
  }

  /** Sends the results of a group until the socket closes or the service stops. */
  async function deliver(who: Identity, groupId: string): Promise<void> {
    let place: FollowedGroup | undefined;
    while (!stopping.signal.aborted) {
      try {
        place ??= takePlace(who);
        const group = await deps.taken.read(groupId);
        if (stopping.signal.aborted) return;
        if (group && group.ownerId !== who.id) {
          return refuse('FORBIDDEN', who, `Task group ${groupId} belongs to another identity.`, { task_group: groupId });
        }
        // An unknown group may still get its first submission.
        place.setKnown(group !== undefined);
        const after = Math.max(sent.get(groupId) ?? 0, group?.seq ?? 0);
        const seq = group ? await sendPage(groupId, after) : after;
        if (seq === after) await deps.groupWatch.waitFor(groupId, after, WAIT_MS, stopping.signal);
      } catch (error) {
        if (stopping.signal.aborted) return;
        if (error instanceof TerminalError) return refuse(error.code, who, error.message);
        deps.log.warn({ err: error, groupId }, 'could not send results over the socket; trying again');
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  }

  /** Sends the next page of results; returns the last sent sequence number. */
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

  function refuse(code: ErrorCode, who: Identity | undefined, text: string, objects?: Record<string, string>): void {
    if (!isRefused) onRefused(code, who, objects);
    isRefused = true;
    fail(text);
  }

  /** Sends the reason, which the client logs before it cancels its futures, and closes the connection. */
  function fail(text: string, cause?: unknown): void {
    deps.log.debug({ reason: text, err: cause }, 'closed a results socket with an error');
    const failure: SocketFailure = { exception: text };
    stopping.abort(); // No more results.
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
    result,
    exception,
    completion_t,
  };
  const text = JSON.stringify(message);
  if (Buffer.byteLength(text) < MAX_FRAME_BYTES) return text;
  const tooLarge = `The result of task ${task_id} is too large for this connection. Read it with FuncXClient.get_result.`;
  return JSON.stringify({ task_id, status: 'failed', exception: tooLarge, completion_t } satisfies SocketResult);
}
