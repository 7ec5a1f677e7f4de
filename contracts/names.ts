/** Names of everything that two processes must agree on: exchanges, queues, workflows, signals, search attributes. */

export const EXCHANGE = {
  /** Topic; agents publish results with the key `<endpoint queue id>.results`. */
  results: 'funcx.results',
  /** Topic; agents publish status reports with the key `<endpoint queue id>.status`. */
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

/** The id before the first dot of a routing key made by {@link resultKey} or {@link statusKey}. */
export const endpointQueueIdOfKey = (key: string): string => key.split('.', 1)[0] ?? '';

/** A submitter reads the queues `<prefix><task group id>`; the prefix names the owner, so that broker rights can. */
export const groupQueuePrefix = (ownerId: string): string => `group.${ownerId}.`;
export const groupQueueName = (ownerId: string, groupId: string): string => groupQueuePrefix(ownerId) + groupId;

export const WORKFLOW = { submission: 'submission', endpoint: 'endpoint' } as const;
export const SIGNAL = { nudge: 'nudge', presence: 'presence', waiting: 'waiting' } as const;
export const QUERY = { tasks: 'tasks', failures: 'failures', presence: 'presence' } as const;

const SUBMISSION_PREFIX = 'submission/';
const ENDPOINT_PREFIX = 'endpoint/';
export const submissionWorkflowId = (submissionId: string): string => SUBMISSION_PREFIX + submissionId;
/** The twin of {@link submissionWorkflowId}; undefined for other workflows. */
export const submissionIdOfWorkflow = (workflowId: string): string | undefined =>
  workflowId.startsWith(SUBMISSION_PREFIX) ? workflowId.slice(SUBMISSION_PREFIX.length) : undefined;
export const endpointWorkflowId = (endpointQueueId: string): string => ENDPOINT_PREFIX + endpointQueueId;

/** Temporal search attributes; all of type Keyword. Created at start-up. */
export const SEARCH_ATTRIBUTE = {
  endpoint: 'FuncXEndpoint',
  function: 'FuncXFunction',
  owner: 'FuncXOwner',
  group: 'FuncXTaskGroup',
  state: 'FuncXState',
  flow: 'FuncXFlow',
} as const;

/** Temporal endpoint queues, unless configured otherwise. */
export const DEFAULT_TASK_QUEUE = { submissions: 'funcx-submissions', endpoints: 'funcx-endpoints' } as const;

/** Where each failed or refused AMQP message says why it was put on the dead-letter queue. */
export const DEAD_LETTER_REASON_HEADER = 'funcx-reason';

/** What a process says to the one that keeps it alive (Node's IPC): it was told to stop, its ports are free, start another. */
export const HANDS_OVER = 'hands over';
