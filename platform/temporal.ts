import { hostname } from 'node:os';

import {
  Client,
  WorkflowExecutionAlreadyStartedError,
  WorkflowNotFoundError,
  type WorkflowStartOptions,
} from '@temporalio/client';
import { defineSearchAttributeKey, TypedSearchAttributes, type SearchAttributePair } from '@temporalio/common';
import { optionalTsToMs } from '@temporalio/common/lib/time';
import type { temporal } from '@temporalio/proto';
import { NativeConnection } from '@temporalio/worker';

import type { PipelineRun } from '../contracts/calls';
import { endpointWorkflowId, SEARCH_ATTRIBUTE, SIGNAL, submissionIdOfWorkflow, WORKFLOW } from '../contracts/names';
import {
  submissionAttributesOf,
  submissionInputOf,
  submissionSummaryOf,
  type EndpointInput,
  type PresenceSignal,
  type SubmissionAttribute,
  type SubmissionStart,
} from '../contracts/submission';
import { limitSummary } from '../contracts/temporal-limits';
import { createCircuit } from './circuit-breaker';
import type { Config } from './config';
import type { Logger } from './log';
import { paced } from './paced';
import { payloadCodecs } from './payload-codecs';
import { ensureSearchAttributes } from './search-attributes';
import { temporalConnectionOptions } from './temporal-connection';

/** The service's use of Temporal: start, nudge, signal, cancel. */

export interface Temporal {
  readonly connection: NativeConnection;
  readonly client: Client;
  /** How this process appears in histories. */
  readonly identity: string;
  /** The search attributes that the server accepted; workflows run without the others. */
  readonly searchAttributes: ReadonlySet<string>;
  /** True if the server accepted the search attributes of flow runs. */
  readonly hasSearchAttributes: boolean;
  /**
   * Makes another call of the client. Like every call of this service, it fails soon while the server does not answer. Default
   * deadline: 4 s.
   */
  withDeadline<T>(call: () => Promise<T>, deadlineMs?: number): Promise<T>;
  /** Starts the workflow of a submission. Succeeds if it is already started. With `instead`, terminates an existing run first. */
  startSubmission(start: SubmissionStart, options?: { instead?: boolean }): Promise<{ wasEager: boolean }>;
  /** Idempotent and paced. False when no workflow of the submission runs. */
  nudge(workflowId: string): Promise<boolean>;
  /** The state of the workflow of a submission; `missing` if the server does not know the workflow. */
  stateOfSubmission(workflowId: string): Promise<'missing' | 'running' | 'ended' | 'terminated'>;
  /**
   * The state of the workflow task: `repeated` if the task failed or timed out and is being retried, `stuck` if it has been
   * retried so often that another run may replace the workflow, otherwise `fine`. A workflow that does not run is `fine`. A child
   * workflow of a pipeline or a flow is never `stuck`.
   */
  workflowTaskOf(workflowId: string): Promise<'fine' | 'repeated' | 'stuck'>;
  /**
   * Whether the first workflow task of a submission is over, also because somebody cancelled or terminated the workflow. Otherwise
   * the identity of the process that took it, if one did.
   */
  firstTaskOf(workflowId: string): Promise<{ isOver: boolean; holder?: string }>;
  /** False when no workflow runs: the workflow was not started yet, or has ended. */
  cancelSubmission(workflowId: string): Promise<boolean>;
  /** Signals the workflow of an endpoint queue that the endpoint came online or went offline. Starts it if needed. */
  signalPresence(input: EndpointInput, presence: PresenceSignal): Promise<void>;
  /** Terminates the stuck workflow of an endpoint queue and starts another one. */
  restartEndpoint(input: EndpointInput, presence: PresenceSignal): Promise<void>;
  /** Signals the workflow of an endpoint queue that tasks wait. Starts it if needed. */
  signalWaiting(input: EndpointInput): Promise<void>;
  latestRunOf(workflowId: string): Promise<string | undefined>;
  /** Signals the workflow of an endpoint queue that what it shows has changed. False when no such workflow runs. */
  signalChanged(endpointQueueId: string): Promise<boolean>;
  /** The Temporal task queue of a workflow in any namespace. */
  taskQueueOf(run: PipelineRun): Promise<string>;
  /** Submissions whose workflow was terminated, failed or timed out after `since`. */
  listEndedAbnormally(since: Date): Promise<{ submissionId: string; workflowId: string; status: string }[]>;
  /** Rejects when the server does not answer within the deadline. */
  check(deadlineMs: number): Promise<void>;
  close(): Promise<void>;
}

/** Limits how long an unresponsive server delays accepts and results. The sweeps repeat failed calls. */
const CALL_DEADLINE_MS = 4_000;
/** Short, because a submission is durable before its start: the submitter need not wait while Temporal is unavailable. */
export const START_DEADLINE_MS = 2_000;
/** Short, because a link to a better page is not worth a longer wait. */
const LOOK_UP_DEADLINE_MS = 1_000;
const CIRCUIT_RETRY_MS = 1_000;
/** Reached after 30 s to 40 s of retries. A signal resets the number of attempts. */
const STUCK_ATTEMPTS = 4;
/** A worker that lets an attempt time out may only be slow. Then the retries count as stuck after this time. */
const SLOW_MS = 180_000;
/** Signals may follow the end of a workflow task in the history. */
const LATEST_EVENTS = 100;
/**
 * A nudge costs five events and a read of the store. Without this gap, tasks that fail one by one would nudge a workflow so
 * often that it cannot continue as new.
 */
const NUDGE_GAP_MS = 250;

export async function connectTemporal(
  config: Config,
  log: Logger,
  { eager, processId }: { eager: boolean; processId: string },
): Promise<Temporal> {
  const connection = await NativeConnection.connect(temporalConnectionOptions(config));
  const dataConverter = { payloadCodecs: payloadCodecs(config) };
  const identity = identityOf(processId);
  const client = new Client({ connection, namespace: config.TEMPORAL_NAMESPACE, dataConverter, identity });
  const searchAttributes = await ensureSearchAttributes(connection, config.TEMPORAL_NAMESPACE, log);

  const circuit = createCircuit({ engine: 'Temporal', outages: 2, retryMs: CIRCUIT_RETRY_MS, isOutage });
  const withDeadline = <T>(call: () => Promise<T>, deadlineMs = CALL_DEADLINE_MS): Promise<T> =>
    circuit(() => client.withDeadline(Date.now() + deadlineMs, call));
  const nudge = paced(NUDGE_GAP_MS, async (workflowId) => {
    const handle = client.workflow.getHandle(workflowId);
    return signalIfOpen(() => withDeadline(() => handle.signal(SIGNAL.nudge)));
  });

  /** Whether the attempts of a workflow task fail, or time out for long. The history has only the first of them. */
  async function failsOrIsLate(execution: { workflowId: string; runId: string }): Promise<boolean> {
    const request = { namespace: config.TEMPORAL_NAMESPACE, execution, maximumPageSize: LATEST_EVENTS };
    const { history } = await withDeadline(() => connection.workflowService.getWorkflowExecutionHistoryReverse(request));
    const end = history?.events?.find(
      (event) => event.workflowTaskFailedEventAttributes ?? event.workflowTaskTimedOutEventAttributes,
    );
    if (!end?.workflowTaskTimedOutEventAttributes) return true;
    return Date.now() - (optionalTsToMs(end.eventTime) ?? 0) >= SLOW_MS;
  }

  return {
    connection,
    client,
    identity,
    searchAttributes,
    hasSearchAttributes: [SEARCH_ATTRIBUTE.flow, SEARCH_ATTRIBUTE.owner].every((name) => searchAttributes.has(name)),
    withDeadline,
    nudge,

    async startSubmission(start, { instead = false } = {}) {
      const input = submissionInputOf(start);
      const attributes = submissionAttributesOf(input, (name) => searchAttributes.has(name));
      try {
        const options: WorkflowStartOptions = {
          workflowId: start.workflowId,
          taskQueue: config.TEMPORAL_SUBMISSIONS_QUEUE,
          args: [input],
          requestEagerStart: eager,
          // Repeating the start of a submission that has ended also counts as already started.
          ...(instead
            ? { workflowIdReusePolicy: 'ALLOW_DUPLICATE', workflowIdConflictPolicy: 'TERMINATE_EXISTING' }
            : { workflowIdReusePolicy: 'REJECT_DUPLICATE' }),
          staticSummary: submissionSummaryOf(input, start.ownerName),
          ...(attributes.length > 0 ? { typedSearchAttributes: new TypedSearchAttributes(attributes.map(pairOf)) } : {}),
        };
        const handle = await withDeadline(() => client.workflow.start(WORKFLOW.submission, options), START_DEADLINE_MS);
        return { wasEager: handle.eagerlyStarted };
      } catch (error) {
        if (error instanceof WorkflowExecutionAlreadyStartedError) return { wasEager: false };
        throw error;
      }
    },

    async stateOfSubmission(workflowId) {
      try {
        const { status } = await withDeadline(() => client.workflow.getHandle(workflowId).describe());
        if (status.name === 'RUNNING') return 'running';
        return status.name === 'TERMINATED' ? 'terminated' : 'ended';
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return 'missing';
        throw error;
      }
    },

    async workflowTaskOf(workflowId) {
      try {
        const { raw, runId } = await withDeadline(() => client.workflow.getHandle(workflowId).describe());
        const attempt = raw.pendingWorkflowTask?.attempt ?? 1;
        if (attempt === 1) return 'fine';
        // Terminating a child would also end the call that waits for it.
        const isChild = Boolean(raw.workflowExecutionInfo?.parentExecution?.workflowId);
        if (attempt < STUCK_ATTEMPTS || isChild) return 'repeated';
        return (await failsOrIsLate({ workflowId, runId })) ? 'stuck' : 'repeated';
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return 'fine';
        throw error;
      }
    },

    async firstTaskOf(workflowId) {
      try {
        const request = { namespace: config.TEMPORAL_NAMESPACE, execution: { workflowId }, maximumPageSize: FIRST_EVENTS };
        const { history } = await withDeadline(() => connection.workflowService.getWorkflowExecutionHistory(request));
        const events = history?.events ?? [];
        const isContinued = Boolean(events[0]?.workflowExecutionStartedEventAttributes?.continuedExecutionRunId);
        if (isContinued || events.some(isPastFirstTask)) return { isOver: true };
        const holder = events.flatMap(({ workflowTaskStartedEventAttributes: taken }) => taken?.identity ?? []).at(-1);
        return { isOver: false, ...(holder === undefined ? {} : { holder }) };
      } catch (error) {
        if (isNotFound(error)) return { isOver: false };
        throw error;
      }
    },

    async cancelSubmission(workflowId) {
      return signalIfOpen(async () => {
        await withDeadline(() => client.workflow.getHandle(workflowId).cancel());
      });
    },

    signalPresence,

    async restartEndpoint(input, presence) {
      const handle = client.workflow.getHandle(endpointWorkflowId(input.taskQueueId));
      await signalIfOpen(async () => {
        await withDeadline(() => handle.terminate('its workflow task failed repeatedly; another run replaces it'));
      });
      await signalPresence(input, presence);
    },

    async signalWaiting(input) {
      const signal = { signal: SIGNAL.waiting, signalArgs: [] };
      await withDeadline(() => client.workflow.signalWithStart(WORKFLOW.endpoint, { ...endpointStart(input), ...signal }));
    },

    async latestRunOf(workflowId) {
      try {
        return (await withDeadline(() => client.workflow.getHandle(workflowId).describe(), LOOK_UP_DEADLINE_MS)).runId;
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return undefined;
        throw error;
      }
    },

    async signalChanged(endpointQueueId) {
      const handle = client.workflow.getHandle(endpointWorkflowId(endpointQueueId));
      return signalIfOpen(() => withDeadline(() => handle.signal(SIGNAL.changed)));
    },

    async taskQueueOf({ namespace, workflowId, runId }) {
      const execution = { workflowId, runId };
      const { workflowExecutionInfo } = await connection.workflowService.describeWorkflowExecution({ namespace, execution });
      return workflowExecutionInfo?.taskQueue ?? '';
    },

    async listEndedAbnormally(since) {
      const query =
        `WorkflowType = '${WORKFLOW.submission}' AND ExecutionStatus IN ('Terminated', 'Failed', 'TimedOut')` +
        ` AND CloseTime > '${since.toISOString()}'`;
      const ended: { submissionId: string; workflowId: string; status: string }[] = [];
      for await (const { workflowId, status } of client.workflow.list({ query })) {
        const submissionId = submissionIdOfWorkflow(workflowId);
        if (submissionId !== undefined) ended.push({ submissionId, workflowId, status: status.name });
      }
      return ended;
    },

    async check(deadlineMs) {
      await client.withDeadline(Date.now() + deadlineMs, () => connection.workflowService.getSystemInfo({}));
    },

    async close() {
      await connection.close();
    },
  };

  async function signalPresence(input: EndpointInput, presence: PresenceSignal): Promise<void> {
    const signal = { signal: SIGNAL.presence, signalArgs: [presence] };
    await withDeadline(() => client.workflow.signalWithStart(WORKFLOW.endpoint, { ...endpointStart(input), ...signal }));
  }

  function endpointStart(input: EndpointInput): {
    workflowId: string;
    taskQueue: string;
    args: [EndpointInput];
    staticSummary: string;
  } {
    return {
      workflowId: endpointWorkflowId(input.taskQueueId),
      taskQueue: config.TEMPORAL_ENDPOINTS_QUEUE,
      args: [input],
      staticSummary: limitSummary(`endpoint ${input.endpointName}`),
    };
  }
}

/** How a process appears in Temporal. */
export const identityOf = (processId: string): string => `${process.pid}@${hostname()} ${processId}`;

/** The ID of the process with this identity. */
export const processIdOf = (identity: string): string | undefined => identity.split(' ')[1];

/** The first workflow task has at most a few signals beside it. */
const FIRST_EVENTS = 50;

function isPastFirstTask(event: temporal.api.history.v1.IHistoryEvent): boolean {
  return Boolean(
    event.workflowTaskCompletedEventAttributes ??
    event.workflowTaskFailedEventAttributes ??
    event.workflowTaskTimedOutEventAttributes ??
    event.workflowExecutionCancelRequestedEventAttributes ??
    event.workflowExecutionTerminatedEventAttributes ??
    event.workflowExecutionTimedOutEventAttributes,
  );
}

const OUTAGE_CODES: ReadonlySet<unknown> = new Set([4 /* DEADLINE_EXCEEDED */, 14 /* UNAVAILABLE */, 1 /* CANCELLED */]);

/** The client wraps the gRPC error. */
function isOutage(error: unknown): boolean {
  for (let inner: unknown = error; inner instanceof Error; inner = inner.cause) {
    if ('code' in inner && OUTAGE_CODES.has(inner.code)) return true;
  }
  return false;
}

/** Of a call of the service itself; the client's own calls fail with a {@link WorkflowNotFoundError}. */
const isNotFound = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 5;

/** Returns false if the workflow is closed. Signals and cancellations race with the end of a workflow and may then be dropped. */
async function signalIfOpen(send: () => Promise<void>): Promise<boolean> {
  try {
    await send();
    return true;
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false;
    throw error;
  }
}

function pairOf(attribute: SubmissionAttribute): SearchAttributePair {
  return attribute.type === 'INT'
    ? { key: defineSearchAttributeKey(attribute.name, attribute.type), value: attribute.value }
    : { key: defineSearchAttributeKey(attribute.name, attribute.type), value: attribute.value };
}
