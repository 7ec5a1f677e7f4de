import { randomUUID } from 'node:crypto';

import type { Request, Response } from 'express';

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
  return made;
}

/**
 * Runs `work` with a new ID. If the response is never written, or is an error, a repeat of the request runs `work` with the same
 * ID, and `work` continues what the earlier call left unfinished instead of doing it twice.
 */
export async function withSameId<T>(
  { repeats }: Pick<ApiDeps, 'repeats'>,
  { identity, req, res }: Requester,
  work: (id: string) => Promise<T>,
): Promise<T> {
  const bodyHash = requireBodyHash(req);
  const newId = randomUUID();
  const of = { ownerId: identity.id, endpointId: newId };
  const isRepeat = await repeats.hasLost(identity.id, bodyHash);
  const earlier = isRepeat ? await repeats.takeLost<{ id: string }>(bodyHash, of) : undefined;
  const { entry, response } = earlier ?? { entry: repeats.entry(bodyHash), response: { id: newId } };
  const request = { ...of, response };
  if (!earlier) await repeats.record(entry, request);
  try {
    const made = await work(response.id);
    await repeats.beforeAnswer(res, entry, request);
    return made;
  } catch (error) {
    repeats.abandon(entry, request);
    throw error;
  }
}
