import { randomBytes, randomUUID } from 'node:crypto';

import { ID_RANDOM_BYTES, makeSharedIds, makeSubmissionId, taskIdOf, taskIndexOf } from '../contracts/ids';
import { makeSubmissionWorkflowId } from '../contracts/names';
import { DEFAULT_DEADLINE_S } from '../contracts/policy';
import type { Config } from '../platform/config';
import type { NewSubmission } from '../platform/store/submissions';
import { tasksKey, type Accepted, type AcceptRequest, type CallTarget } from './accept-request';

/** Turns requests into submissions with IDs, before they are stored. */

export interface SplitSubmission extends NewSubmission {
  target: CallTarget;
}

export function split(
  config: Config,
  request: AcceptRequest,
  taskGroupId: string,
): { submissions: SplitSubmission[]; tasks: Record<string, string[]> } {
  const now = Date.now();
  const submissions: (SplitSubmission & { names: Set<string> })[] = [];
  const tasks: Record<string, string[]> = {};
  for (const { functionId, functionName, payloads, target = request } of request.calls) {
    const ids = (tasks[tasksKey(functionId, target === request ? undefined : target.endpoint.id)] ??= []);
    for (const payload of payloads) {
      let current = submissions.at(-1);
      if (current?.target !== target || current.tasks.length >= config.FUNCX_MAX_TASKS_PER_SUBMISSION) {
        const id = makeSubmissionId(now, randomBytes(ID_RANDOM_BYTES));
        current = { ...emptySubmission(request, target, { id, taskGroupId, now }), target, names: new Set() };
        submissions.push(current);
      }
      current.names.add(functionName);
      current.tasks.push(
        typeof payload === 'string'
          ? { functionId, payload: Buffer.from(payload, 'utf8') }
          : { functionId, payload: Buffer.from(payload.text, 'utf8'), referring: payload },
      );
      ids.push(taskIdOf(current.id, current.tasks.length));
    }
  }
  for (const one of submissions) {
    one.functionName = nameOf(one.names);
    one.workflowId = workflowIdOf(one.target, one.id, one.functionName, one.tasks.length);
  }
  return { submissions, tasks };
}

export interface SharedPart {
  request: AcceptRequest;
  submission: SplitSubmission;
  accepted: Accepted;
}

/** Makes one submission of each request. The submissions have consecutive IDs and share one workflow. */
export function splitTogether(config: Config, pending: readonly { request: AcceptRequest; taskGroupId: string }[]): SharedPart[] {
  const now = Date.now();
  const ids = makeSharedIds(now, randomBytes(ID_RANDOM_BYTES), pending.length);
  const parts = pending.map(({ request, taskGroupId }, index): SharedPart => {
    const { submissions, tasks } = split(config, request, taskGroupId);
    const [submission] = submissions;
    const id = ids[index];
    if (!submission || !id) throw new Error('a request without a submission cannot share a workflow');
    const moved = Object.entries(tasks).map(([functionId, own]) => [
      functionId,
      own.map((task) => taskIdOf(id, taskIndexOf(task))),
    ]);
    return {
      request,
      submission: { ...submission, id },
      accepted: { requestId: randomUUID(), taskGroupId, tasks: Object.fromEntries(moved) as Accepted['tasks'] },
    };
  });
  const [first] = parts;
  if (!first) return [];
  const { deadline } = first.submission;
  const functionName = nameOf(new Set(parts.map(({ submission }) => submission.functionName)));
  const total = parts.reduce((sum, { submission }) => sum + submission.tasks.length, 0);
  const workflowId = workflowIdOf(first.request, first.submission.id, functionName, total);
  for (const { submission } of parts) Object.assign(submission, { workflowId, deadline });
  return parts;
}

function emptySubmission(
  request: AcceptRequest,
  { endpoint, endpointQueueId, policy }: CallTarget,
  { id, taskGroupId, now }: { id: string; taskGroupId: string; now: number },
): NewSubmission {
  return {
    id,
    workflowId: '',
    ownerId: request.owner.id,
    endpointId: endpoint.id,
    endpointQueueId,
    taskGroupId,
    functionName: '',
    policy,
    resourceSpecification: request.resourceSpecification,
    resultSerializers: request.resultSerializers,
    traceparent: request.traceparent,
    deadline: new Date(now + (policy.deadline_s ?? DEFAULT_DEADLINE_S) * 1_000),
    tasks: [],
  };
}

function workflowIdOf({ endpoint }: CallTarget, id: string, functionName: string, total: number): string {
  return makeSubmissionWorkflowId(id, { functionName, total, endpointName: endpoint.name });
}

function nameOf(names: ReadonlySet<string>): string {
  const [first = ''] = names;
  return names.size > 1 ? `${first} and ${names.size - 1} more` : first;
}
