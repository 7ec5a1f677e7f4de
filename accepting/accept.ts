import { randomBytes, randomUUID } from 'node:crypto';

import { TerminalError } from '../contracts/errors';
import { ID_RANDOM_BYTES, makeSubmissionId, taskIdOf } from '../contracts/ids';
import { makeSubmissionWorkflowId } from '../contracts/names';
import { DEFAULT_DEADLINE_S, type Policy } from '../contracts/policy';
import type { Config } from '../platform/config';
import { failPoint } from '../platform/fail-points';
import type { Logger } from '../platform/log';
import { workflowStarts } from '../platform/metrics';
import type { Database } from '../platform/store/database';
import { countOpenTasks } from '../platform/store/open-tasks';
import { insertSubmissions, markStarted, readAccepted, type NewSubmission, type NewTask } from '../platform/store/submissions';
import type { UnansweredRequest } from '../platform/store/unanswered-requests';
import type { Temporal } from '../platform/temporal';
import type { GroupQueues } from './group-queues';
import type { Quotas } from './quotas';
import { createOpenTaskLimit } from './open-task-limit';

/**
 * Accept, shared by every wire: bodies in one statement, then the workflow, then the answer. What is durable is accepted:
 * when Temporal does not take the start, the caller still gets its ids, and the sweep of `workers` starts the workflow.
 */

export interface AcceptRequest {
  owner: { id: string; name: string };
  /** Already checked for access. */
  endpoint: { id: string; name: string };
  endpointQueueId: string;
  /** Absent: made. Unknown: created. Of another owner: FORBIDDEN. */
  taskGroupId?: string;
  /** The result queue of the group exists before the answer. */
  createQueue: boolean;
  calls: { functionId: string; functionName: string; payloads: (string | ReferringPayload)[] }[];
  policy: Policy;
  resourceSpecification?: Record<string, unknown>;
  resultSerializers?: string[];
  traceparent?: string;
  /** The same key and hash get the same answer; another hash is a CONFLICT. */
  idempotency?: { key: string; bodyHash: Buffer };
  /** The caller, itself a workflow, starts the workflows of the submissions; the sweep does when it dies before. */
  startsItself?: boolean;
  /** Kept with the bodies until the answer is written out, so that a repeat without a key is known. */
  unanswered?: UnansweredRequest;
}

/** A body that is completed with results of earlier tasks when it is sent. */
export interface ReferringPayload {
  text: string;
  sources: readonly string[];
  /** Of the complete body. */
  bytes: number;
}

export interface Accepted {
  requestId: string;
  taskGroupId: string;
  /** Task ids in the order of the payloads, by function id. */
  tasks: Record<string, string[]>;
}

export type Accept = (request: AcceptRequest) => Promise<Accepted>;

export interface AcceptDeps {
  config: Config;
  log: Logger;
  db: Database;
  temporal: Temporal;
  groupQueues: GroupQueues;
  quotas: Quotas;
}

export function createAccept(deps: AcceptDeps): Accept {
  const limit = createOpenTaskLimit(deps.config.FUNCX_MAX_OPEN_TASKS, (ownerId) => countOpenTasks(deps.db, ownerId));
  return async function accept(request) {
    const taskGroupId = request.taskGroupId ?? randomUUID();
    const { submissions, tasks } = split(deps.config, request, taskGroupId);
    const accepted: Accepted = { requestId: randomUUID(), taskGroupId, tasks };
    const { idempotency, owner } = request;
    const count = submissions.reduce((sum, submission) => sum + submission.tasks.length, 0);
    // A repeat adds no work: it gets its response even at the limit.
    const bytes = bytesOf(submissions);
    const checked = limit.check(owner.id, count).then(() => deps.quotas.requireBytes(owner.id, bytes));
    const earlier = await checked.catch(async (error: unknown) => {
      const repeated = idempotency && (await readAccepted(deps.db, owner.id, idempotency.key));
      if (!repeated) throw error;
      return repeated;
    });
    if (earlier) return sameAnswer(request, earlier);

    await deps.quotas.requireRoomForTaskGroup(owner.id, taskGroupId);
    // Declare the queue first: nothing is stored when the broker is away.
    if (request.createQueue) await deps.groupQueues.ensure(owner.id, taskGroupId);
    const outcome = await insertSubmissions(
      deps.db,
      submissions,
      request.createQueue,
      idempotency && { ownerId: owner.id, ...idempotency, response: accepted },
      request.unanswered && { ...request.unanswered, response: accepted },
    );
    switch (outcome.kind) {
      case 'group-of-another-owner':
        throw new TerminalError('FORBIDDEN', `Task group ${taskGroupId} belongs to somebody else. Use a group id of your own.`, {
          subject: { kind: 'task group', ids: [taskGroupId] },
        });
      case 'repeated':
        return sameAnswer(request, outcome);
      case 'inserted':
        limit.add(owner.id, count);
        deps.quotas.addBytes(owner.id, bytes);
        if (request.taskGroupId === undefined) deps.quotas.addGroup(owner.id);
        break;
    }
    await failPoint('accept-bodies');
    if (request.startsItself) return accepted;
    const started = await Promise.all(submissions.map((submission) => start(deps, request, submission)));
    await failPoint('accept-start');
    void noteStarted(
      deps,
      submissions.filter((_, index) => started[index]).map((submission) => submission.id),
    );
    await failPoint('accept-answer');
    return accepted;
  };
}

const bytesOf = (submissions: readonly NewSubmission[]): number =>
  submissions.reduce((sum, { tasks }) => tasks.reduce((bytes, { payload }) => bytes + payload.length, sum), 0);

/** The response of the request that this one repeats. */
function sameAnswer({ idempotency }: AcceptRequest, earlier: { bodyHash: Buffer; response: unknown }): Accepted {
  if (!idempotency || !earlier.bodyHash.equals(idempotency.bodyHash)) {
    throw new TerminalError('CONFLICT', 'This Idempotency-Key was used for another request. Use a new key for new work.');
  }
  return earlier.response as Accepted; // written by this file
}

/** Splits a request into submissions of bounded size and gives every task its ID. */
function split(
  config: Config,
  request: AcceptRequest,
  taskGroupId: string,
): { submissions: NewSubmission[]; tasks: Record<string, string[]> } {
  const now = Date.now();
  const deadline = new Date(now + (request.policy.deadline_s ?? DEFAULT_DEADLINE_S) * 1_000);
  const submissions: NewSubmission[] = [];
  const tasks: Record<string, string[]> = {};
  let current: (NewSubmission & { tasks: NewTask[]; names: Set<string> }) | undefined;
  for (const { functionId, functionName, payloads } of request.calls) {
    const ids = (tasks[functionId] ??= []);
    for (const payload of payloads) {
      if (!current || current.tasks.length >= config.FUNCX_MAX_TASKS_PER_SUBMISSION) {
        current = {
          id: makeSubmissionId(now, randomBytes(ID_RANDOM_BYTES)),
          workflowId: '',
          ownerId: request.owner.id,
          endpointId: request.endpoint.id,
          endpointQueueId: request.endpointQueueId,
          taskGroupId,
          functionName: '',
          policy: request.policy,
          resourceSpecification: request.resourceSpecification,
          resultSerializers: request.resultSerializers,
          traceparent: request.traceparent,
          deadline,
          tasks: [],
          names: new Set(),
        };
        submissions.push(current);
      }
      current.names.add(functionName);
      current.functionName = nameOf(current.names);
      current.tasks.push(
        typeof payload === 'string'
          ? { functionId, payload: Buffer.from(payload, 'utf8') }
          : { functionId, payload: Buffer.from(payload.text, 'utf8'), referring: payload },
      );
      ids.push(taskIdOf(current.id, current.tasks.length));
    }
  }
  for (const one of submissions) {
    const { id, functionName } = one;
    const label = { functionName, total: one.tasks.length, endpointName: request.endpoint.name };
    one.workflowId = makeSubmissionWorkflowId(id, label);
  }
  return { submissions, tasks };
}

function nameOf(names: ReadonlySet<string>): string {
  const [first = ''] = names;
  return names.size > 1 ? `${first} and ${names.size - 1} more` : first;
}

/** True when the workflow runs. Otherwise the sweep starts it: "already started" is success there. */
async function start(deps: AcceptDeps, request: AcceptRequest, submission: NewSubmission): Promise<boolean> {
  try {
    const { wasEager } = await deps.temporal.startSubmission({
      ...submission,
      ownerName: request.owner.name,
      endpointName: request.endpoint.name,
      total: submission.tasks.length,
    });
    workflowStarts.inc({ eager: String(wasEager) });
    return true;
  } catch (error) {
    deps.log.warn({ err: error, submissionId: submission.id }, 'the workflow of a submission did not start; the sweep starts it');
    return false;
  }
}

/** The sweep skips submissions with this mark. Without it, the sweep starts the workflow once more, which does nothing. */
async function noteStarted(deps: AcceptDeps, ids: readonly string[]): Promise<void> {
  try {
    if (ids.length > 0) await markStarted(deps.db, ids);
  } catch (error) {
    deps.log.debug({ err: error }, 'could not note that a workflow started');
  }
}
