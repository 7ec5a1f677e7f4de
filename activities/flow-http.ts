import { activityInfo, heartbeat } from '@temporalio/activity';
import { ApplicationFailure, ApplicationFailureCategory } from '@temporalio/common';

import type { FlowActivities, FlowEvent, LineRef } from '../contracts/flow-steps';
import { isReference, type Json, type JsonObject } from '../flows/values';
import { OutgoingRefused, type OutgoingAnswer, type OutgoingHttp } from '../platform/outgoing-http';
import type { Database } from '../platform/store/database';
import { readLine, savePending } from '../platform/store/flow-lines';
import { readRunIdentity } from '../platform/store/flow-run-inputs';
import { derivedId } from './derived-id';
import type { Pending } from './flow-pending';

/**
 * Actions at other action providers: `POST <url>/run`, then `GET <url>/<action id>/status` until the action has ended, then
 * `POST <url>/<action id>/release`. Each poll is one attempt of the activity, and the Temporal server schedules the next attempt.
 * So a long action occupies no worker and adds no events to the history. The provider's answer is stored after each request, so
 * that any worker can continue the action.
 */

export type FlowHttpActivities = Pick<FlowActivities, 'runHttpAction' | 'stopHttpAction'>;

/** After the heartbeat timeout that the workflow sets, Temporal gives the attempt of a dead worker to another worker. */
const HEARTBEAT_EVERY_MS = 2_000;
const FIRST_POLL_MS = 1_000;
const MAX_POLL_MS = 60_000;
const MAX_ID_CHARS = 512;
const STATUSES = ['ACTIVE', 'INACTIVE', 'SUCCEEDED', 'FAILED'];
const TOO_MANY_REQUESTS = 429;

interface HttpAction {
  url: string;
  pending: Pending;
}

export function createFlowHttpActivities({ db, outgoing }: { db: Database; outgoing: OutgoingHttp }): FlowHttpActivities {
  async function readAction({ runId, line, position }: LineRef & { position: number }): Promise<HttpAction | undefined> {
    const row = await readLine(db, runId, line);
    const pending = row?.pending as Pending | null | undefined;
    if (row?.position !== position || pending?.provider !== 'http' || pending.url === undefined) return undefined;
    return { url: pending.url, pending };
  }

  /** Sends one request: the start or a poll. Returns undefined while the action continues. */
  async function poll(input: LineRef & { position: number }, { url, pending }: HttpAction): Promise<FlowEvent | undefined> {
    let status = pending.status;
    if (!status) {
      const body = { request_id: derivedId(`${input.runId}/${input.line}/${input.position}`), body: pending.body };
      status = readStatus(await outgoing.send({ method: 'POST', url: `${url}/run`, body }), url);
    } else if (!hasEnded(status)) {
      status = readStatus(await outgoing.send({ method: 'GET', url: `${addressOf(url, status)}/status` }), url);
    }
    await savePending(db, input, { ...pending, status });
    if (!hasEnded(status)) return undefined;
    await tell(addressOf(url, status), 'release');
    return { kind: 'answered', isTimedOut: false };
  }

  /** Sends cancel or release, and ignores failures: they do not affect the run, and a provider may not support them. */
  async function tell(address: string, what: 'cancel' | 'release'): Promise<void> {
    await outgoing.send({ method: 'POST', url: `${address}/${what}`, body: {} }).catch(() => undefined);
  }

  async function stop({ url, pending: { status } }: HttpAction): Promise<void> {
    if (!status) return;
    if (!hasEnded(status)) await tell(addressOf(url, status), 'cancel');
    await tell(addressOf(url, status), 'release');
  }

  return {
    async runHttpAction({ waitTimeS, ...input }) {
      const action = await readAction(input);
      if (!action) return { kind: 'refused', cause: 'the run has already left this action' };
      if (!(await readRunIdentity(db, input.runId)))
        return { kind: 'refused', cause: 'the identity of the owner of the run was revoked' };
      if (holdsReference(action.pending.body))
        return {
          kind: 'refused',
          cause: 'the body holds a large result by reference, which only a Compute action can read; pass smaller values',
        };
      const { attempt } = activityInfo();
      const deadlineMs = action.pending.startedMs + waitTimeS * 1_000;
      let trouble: Error | undefined;
      try {
        const event = await withHeartbeats(() => poll(input, action));
        if (event) return event;
      } catch (error) {
        if (error instanceof OutgoingRefused) return { kind: 'refused', cause: error.message };
        trouble = error instanceof Error ? error : new Error(String(error));
      }
      const leftMs = deadlineMs - Date.now();
      if (leftMs <= 0) {
        const last = (await readAction(input)) ?? action;
        if (!last.pending.status)
          return {
            kind: 'refused',
            cause: `${last.url} did not start the action within its WaitTime: ${trouble?.message ?? ''}`,
          };
        await withHeartbeats(() => stop(last));
        return { kind: 'answered', isTimedOut: true };
      }
      throw ApplicationFailure.create({
        type: 'ActionContinues',
        message: trouble?.message ?? 'the action continues; it is polled again',
        category: ApplicationFailureCategory.BENIGN,
        nextRetryDelay: Math.max(1, Math.min(FIRST_POLL_MS * 2 ** Math.min(attempt - 1, 10), MAX_POLL_MS, leftMs)),
      });
    },

    async stopHttpAction(input) {
      const action = await readAction(input);
      if (action) await withHeartbeats(() => stop(action));
    },
  };
}

async function withHeartbeats<T>(work: () => Promise<T>): Promise<T> {
  const timer = setInterval(() => heartbeat(), HEARTBEAT_EVERY_MS);
  try {
    return await work();
  } finally {
    clearInterval(timer);
  }
}

const hasEnded = ({ status }: JsonObject): boolean => status === 'SUCCEEDED' || status === 'FAILED';

const addressOf = (url: string, { action_id: id }: JsonObject): string => `${url}/${encodeURIComponent(id as string)}`;

/** The status of an action. Throws if the answer is not one. */
function readStatus({ status: code, body, text }: OutgoingAnswer, url: string): JsonObject {
  if (code >= 500 || code === TOO_MANY_REQUESTS) throw new Error(`${url} answered ${code}: ${text}`);
  if (code >= 400) throw new OutgoingRefused(`${url} refused the action with ${code}: ${text}`);
  const status = body as JsonObject | null | undefined;
  const id = status?.action_id;
  if (typeof id !== 'string' || id === '' || id.length > MAX_ID_CHARS || id === '.' || id === '..')
    throw new OutgoingRefused(`${url} is not an action provider: its answer has no action_id`);
  if (!STATUSES.includes(status?.status as string))
    throw new OutgoingRefused(`${url} is not an action provider: the status in its answer is not one of ${STATUSES.join(', ')}`);
  return status as JsonObject;
}

/** Whether the value contains a reference. Avoids recursion, so it does not rely on a limit for the nesting of a body. */
function holdsReference(value: Json | undefined): boolean {
  const todo: unknown[] = [value];
  while (todo.length > 0) {
    const next = todo.pop();
    if (isReference(next)) return true;
    if (typeof next === 'object' && next !== null) for (const inner of Object.values(next)) todo.push(inner);
  }
  return false;
}
