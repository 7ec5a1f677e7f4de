/** Names that processes share. */

export const EXCHANGE = {
  /** Topic exchange. Agents publish results with the routing key `<endpoint queue ID>.results`. */
  results: 'funcx.results',
  /** Topic exchange. Agents publish status reports with the routing key `<endpoint queue ID>.status`. */
  status: 'funcx.status',
} as const;

export const QUEUE = {
  results: 'funcx.results',
  status: 'funcx.status',
  deadLetters: 'funcx.dead-letters',
} as const;

export const tasksQueueName = (endpointQueueId: string): string => `ep.${endpointQueueId}.tasks`;
export const commandQueueName = (endpointId: string): string => `ep.${endpointId}.commands`;
export const resultKey = (endpointQueueId: string): string => `${endpointQueueId}.results`;
export const statusKey = (endpointQueueId: string): string => `${endpointQueueId}.status`;

export const endpointQueueIdOfKey = (key: string): string => key.split('.', 1)[0] ?? '';

/** A group's queue is `<prefix><task group ID>`. It names the owner, because rights on the broker are patterns of names. */
export const groupQueuePrefix = (ownerId: string): string => `group.${ownerId}.`;
export const groupQueueName = (ownerId: string, groupId: string): string => groupQueuePrefix(ownerId) + groupId;
export const batchQueueOf = (groupQueue: string): string => `${groupQueue}.batches`;
export const groupBatchQueueName = (ownerId: string, groupId: string): string => batchQueueOf(groupQueueName(ownerId, groupId));

export const WORKFLOW = { submission: 'submission', endpoint: 'endpoint' } as const;
/** `nudge` is for submissions, the others for endpoint queues: their agent came or left, tasks wait, their workflow must look again. */
export const SIGNAL = { nudge: 'nudge', presence: 'presence', waiting: 'waiting', changed: 'changed' } as const;
export const QUERY = { tasks: 'tasks', failures: 'failures', presence: 'presence' } as const;

const SUBMISSION_PREFIX = 'submission/';
const ENDPOINT_PREFIX = 'endpoint/';
const UUID_CHARS = 36;
/** Maximum length of the label after the submission ID. */
const MAX_LABEL_CHARS = 60;
const MAX_FUNCTION_CHARS = 28;

/** Such as `submission/<uuid>-add-x128-on-laptop`, for people who read the Temporal UI. The store keeps it. */
export function makeSubmissionWorkflowId(
  submissionId: string,
  { functionName, total, endpointName }: { functionName: string; total: number; endpointName: string },
): string {
  const count = total === 1 ? '' : `-x${total}`;
  const label = `-${plain(functionName, MAX_FUNCTION_CHARS)}${count}-on-`;
  return SUBMISSION_PREFIX + submissionId + label + plain(endpointName, MAX_LABEL_CHARS - label.length);
}

/** A name in characters that need no quoting in a URL or a shell. */
function plain(name: string, maxChars: number): string {
  const kept = name.replace(/[^A-Za-z0-9._-]+/g, '_').replace(/^_+|_+$/g, '');
  return (kept === '' ? 'unnamed' : kept).slice(0, maxChars);
}

/** The submission ID in a workflow ID of any version; undefined for other workflows. */
export const submissionIdOfWorkflow = (workflowId: string): string | undefined =>
  workflowId.startsWith(SUBMISSION_PREFIX)
    ? workflowId.slice(SUBMISSION_PREFIX.length, SUBMISSION_PREFIX.length + UUID_CHARS)
    : undefined;
export const endpointWorkflowId = (endpointQueueId: string): string => ENDPOINT_PREFIX + endpointQueueId;

/**
 * Temporal search attributes. The service creates them at start. SQL visibility has room for 10 of type Keyword and 3 of type
 * Int in a namespace, so a server may refuse the last attributes: submissions then run without them.
 */
export const SEARCH_ATTRIBUTE = {
  endpoint: 'FuncXEndpoint',
  function: 'FuncXFunction',
  owner: 'FuncXOwner',
  group: 'FuncXTaskGroup',
  state: 'FuncXState',
  flow: 'FuncXFlow',
  endpointName: 'FuncXEndpointName',
  ownerName: 'FuncXOwnerName',
} as const;

/** Counts of tasks, of type Int: `FuncXFailed > 0` finds submissions with failed or expired tasks. */
export const COUNT_ATTRIBUTE = { failed: 'FuncXFailed', cancelled: 'FuncXCancelled' } as const;

export const DEFAULT_TASK_QUEUE = { submissions: 'funcx-submissions', endpoints: 'funcx-endpoints' } as const;

export const DEAD_LETTER_REASON_HEADER = 'funcx-reason';

/** IPC message from a process to its supervisor: the process listens, and every engine responds. */
export const SERVES = 'serves';

/** IPC message from a stopping process to its supervisor: the process keeps serving until its successor serves. */
export const HANDS_OVER = 'hands over';

/** IPC message from a supervisor to a process that hands over: the successor serves, or none will be started. */
export const SUCCESSOR_SERVES = 'successor serves';
