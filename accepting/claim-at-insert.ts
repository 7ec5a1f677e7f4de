import { taskIdOf } from '../contracts/ids';
import type { Config } from '../platform/config';
import type { ClaimedTask } from '../platform/store/claims';
import type { Database } from '../platform/store/database';
import { readFunctionCodes } from '../platform/store/function-codes';
import type { InsertOutcome, NewSubmission } from '../platform/store/submissions';
import type { AcceptRequest } from './accept-request';
import type { FreshOutcome } from './fresh-submissions';

/** The statement that inserts a small submission also claims its tasks for dispatch, if the window has room for them. */

/** The workflow of a larger submission claims its tasks, in turn with tasks of other owners. */
const MAX_TASKS = 32;

/** Of the code and the arguments of each task. */
const MAX_MESSAGE_BYTES = 64 * 1024;

/**
 * True for few tasks with small messages. The messages stay in memory until the broker has them, and nothing else bounds how
 * many claims at inserts one process holds. Each message has its own copy of the code.
 */
export function mayClaim(config: Config, { calls }: Pick<AcceptRequest, 'calls'>): boolean {
  const isSmall = (bytes: number, codeBytes: number): boolean =>
    bytes <= config.FUNCX_INLINE_BODY_BYTES && bytes + codeBytes <= MAX_MESSAGE_BYTES;
  return (
    calls.reduce((sum, { payloads }) => sum + payloads.length, 0) <= MAX_TASKS &&
    calls.every(({ codeBytes, payloads }) =>
      payloads.every((payload) => typeof payload === 'string' && isSmall(Buffer.byteLength(payload), codeBytes)),
    )
  );
}

/** The ID of the claim of a workflow's first step. A step that finds nothing in memory reads this claim from the store. */
export const firstClaimOf = (submissionId: string): string => `${submissionId}/0`;

/** What the first step of the workflow needs to know about the insert. Never rejects. */
export async function freshOutcome(
  db: Database,
  submission: NewSubmission,
  insert: Promise<InsertOutcome>,
): Promise<FreshOutcome> {
  try {
    const outcome = await insert;
    if (outcome.kind !== 'inserted') return { kind: 'refused' };
    return { kind: 'stored', claimed: outcome.claimed ? await claimedTasks(db, submission, outcome.claimed) : [] };
  } catch {
    return { kind: 'unknown' }; // the accept reports the error
  }
}

async function claimedTasks(
  db: Database,
  submission: NewSubmission,
  { capabilities, rate, endpointOwnerId }: NonNullable<Extract<InsertOutcome, { kind: 'inserted' }>['claimed']>,
): Promise<ClaimedTask[]> {
  const { id, ownerId, policy, resourceSpecification, resultSerializers, traceparent, tasks } = submission;
  const codes = await readFunctionCodes(
    db,
    tasks.map(({ functionId }) => functionId),
  );
  return tasks.map(({ functionId, payload }, index) => {
    const { code = Buffer.alloc(0), hash = '' } = codes.get(functionId) ?? {};
    return {
      id: taskIdOf(id, index + 1),
      attempt: 1,
      functionId,
      ownerId,
      isOwn: ownerId === endpointOwnerId,
      code,
      codeHash: hash,
      payload,
      resourceSpecification: resourceSpecification ?? null,
      resultSerializers: resultSerializers ?? null,
      walltimeMs: policy.walltime_s === undefined ? null : policy.walltime_s * 1_000,
      traceparent: traceparent ?? null,
      missingSource: null,
      capabilities,
      rate,
    };
  });
}
