import { randomUUID } from 'node:crypto';

import type { Request, Response } from 'express';

import { TerminalError } from '../contracts/errors';
import type { Identity } from '../platform/access';
import type { ApiDeps } from './deps';
import { bodyHashOf } from './middleware/read-body';
import { requireBodyHash } from './submit-headers';

/** Requests that make something, and make it once although clients repeat them. */

interface Requester {
  identity: Identity;
  req: Request;
  res: Response;
}

/**
 * What an equal request made, if its response was never written. `find` gets the response that is stored with that request. Write
 * the response right after this function resolves.
 */
export async function findMadeEarlier<Stored, T>(
  { repeats }: Pick<ApiDeps, 'repeats'>,
  { identity, req, res }: Requester,
  find: (response: Stored) => Promise<T | undefined>,
): Promise<T | undefined> {
  const bodyHash = bodyHashOf(req);
  if (!bodyHash || !(await repeats.hasLost(identity.id, bodyHash))) return undefined;
  const of = { ownerId: identity.id, endpointId: randomUUID() };
  const earlier = await repeats.takeLost<Stored>(bodyHash, of);
  if (!earlier) return undefined;
  const made = await repeats.store(earlier.entry, of, () => find(earlier.response));
  if (made) await repeats.beforeAnswer(res, earlier.entry, { ...of, response: earlier.response });
  else await repeats.forget(earlier.entry);
  return made;
}

export interface SameIdWork<T> {
  /**
   * Makes something with this ID, or continues what an earlier call with this ID left unfinished. Call `onKept` once a part is
   * stored that stays after a refusal, so that a repeat continues. Other refusals leave nothing.
   */
  work(id: string, onKept: () => void): Promise<T>;
  /** True if what an earlier call made is deleted: then the request is new. */
  isDeleted?(id: string): Promise<boolean>;
}

/**
 * Runs `work` with a new ID. If the response is never written, or is an error, a repeat of the request runs `work` with the same
 * ID, and `work` continues what the earlier call left unfinished instead of doing it twice.
 */
export async function withSameId<T>(
  { repeats }: Pick<ApiDeps, 'repeats'>,
  { identity, req, res }: Requester,
  { work, isDeleted = async () => false }: SameIdWork<T>,
): Promise<T> {
  const bodyHash = requireBodyHash(req);
  const newId = randomUUID();
  const of = { ownerId: identity.id, endpointId: newId };
  const isRepeat = await repeats.hasLost(identity.id, bodyHash);
  let earlier = isRepeat ? await repeats.takeLost<{ id: string }>(bodyHash, of) : undefined;
  if (earlier) {
    const { entry, response } = earlier;
    if (await repeats.store(entry, of, () => isDeleted(response.id))) {
      await repeats.forget(entry);
      earlier = undefined;
    }
  }
  const { entry, response } = earlier ?? { entry: repeats.entry(bodyHash), response: { id: newId } };
  const request = { ...of, response };
  if (!earlier) await repeats.record(entry, request);
  let isKept = earlier !== undefined;
  try {
    const made = await work(response.id, () => (isKept = true));
    await repeats.beforeAnswer(res, entry, request);
    return made;
  } catch (error) {
    if (error instanceof TerminalError && !isKept) await repeats.forget(entry);
    else repeats.abandon(entry, request);
    throw error;
  }
}
