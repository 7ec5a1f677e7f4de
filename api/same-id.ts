import { randomUUID } from 'node:crypto';

import type { Request, Response } from 'express';

import type { Identity } from '../platform/access';
import type { ApiDeps } from './deps';
import { bodyHashOf } from './middleware/read-body';

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
