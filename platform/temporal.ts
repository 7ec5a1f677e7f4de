import { Client, WorkflowExecutionAlreadyStartedError, type WorkflowStartOptions } from '@temporalio/client';
import { defineSearchAttributeKey, SearchAttributeType, TypedSearchAttributes } from '@temporalio/common';
import { temporal } from '@temporalio/proto';
import { NativeConnection } from '@temporalio/worker';

import type { PipelineRun } from '../contracts/calls';
import {
  endpointWorkflowId,
  SEARCH_ATTRIBUTE,
  SIGNAL,
  submissionIdOfWorkflow,
  submissionWorkflowId,
  WORKFLOW,
} from '../contracts/names';
import {
  submissionAttributesOf,
  submissionSummaryOf,
  type EndpointInput,
  type PresenceSignal,
  type SubmissionInput,
} from '../contracts/submission';
import type { Config } from './config';
import type { Logger } from './log';
import { paced } from './paced';

/** The service's use of Temporal behind one small interface: start, nudge, signal, cancel. */

export interface Temporal {
  readonly connection: NativeConnection;
  readonly client: Client;
  /** False where the server refused our search attributes; then everything runs without them. */
  readonly hasSearchAttributes: boolean;
  /** Starts the workflow of a submission; "already started" is success. */
  startSubmission(input: SubmissionInput, ownerName: string): Promise<{ wasEager: boolean }>;
  /** Idempotent, and paced; a submission that is already closed needs no nudge. */
  nudge(submissionId: string): Promise<void>;
  /** False when no workflow runs: it was not started yet, or has ended. */
  cancelSubmission(submissionId: string): Promise<boolean>;
  /** Starts the workflow of an endpoint queue if need be, and tells it who came, went or waits. */
  signalPresence(input: EndpointInput, presence: PresenceSignal): Promise<void>;
  signalWaiting(input: EndpointInput): Promise<void>;
  /** The task queue of a workflow, of any namespace. */
  taskQueueOf(run: PipelineRun): Promise<string>;
  /** Submissions whose workflow ended after `since` in a way that it did not choose. */
  listEndedAbnormally(since: Date): Promise<{ submissionId: string; status: string }[]>;
  /** Resolves when the server answers; rejects within the deadline when it does not. */
  check(deadlineMs: number): Promise<void>;
  close(): Promise<void>;
}

/**
 * After kill -9 of the process that accepted a submission, another worker takes over after this time, not after the
 * default of 10 s.
 */
const WORKFLOW_TASK_TIMEOUT = '2 seconds';
/** A server that is silent must not keep an accept, or results that are stored, waiting: what was not told is told again. */
const CALL_DEADLINE_MS = 4_000;
/**
 * A nudge costs five events and a look at the store. Tasks that fail one by one and ask for a decision each would keep a
 * workflow so busy with nudges that it finds no moment to continue as a new run.
 */
const NUDGE_GAP_MS = 250;

export async function connectTemporal(config: Config, log: Logger, { eager }: { eager: boolean }): Promise<Temporal> {
  const connection = await NativeConnection.connect({ address: config.TEMPORAL_ADDRESS });
  const client = new Client({ connection, namespace: config.TEMPORAL_NAMESPACE });
  const hasSearchAttributes = await ensureSearchAttributes(connection, config.TEMPORAL_NAMESPACE, log);

  const inTime = <T>(call: () => Promise<T>): Promise<T> => client.withDeadline(Date.now() + CALL_DEADLINE_MS, call);
  const nudge = paced(NUDGE_GAP_MS, async (submissionId) => {
    const handle = client.workflow.getHandle(submissionWorkflowId(submissionId));
    await signalIfOpen(() => inTime(() => handle.signal(SIGNAL.nudge)));
  });

  return {
    connection,
    client,
    hasSearchAttributes,
    nudge,

    async startSubmission(input, ownerName) {
      try {
        const options: WorkflowStartOptions = {
          workflowId: submissionWorkflowId(input.submissionId),
          taskQueue: config.TEMPORAL_SUBMISSIONS_QUEUE,
          args: [input],
          requestEagerStart: eager,
          // A start that is repeated after the submission has ended is "already started" as well.
          workflowIdReusePolicy: 'REJECT_DUPLICATE',
          workflowTaskTimeout: WORKFLOW_TASK_TIMEOUT,
          staticSummary: submissionSummaryOf(input, ownerName),
          ...(hasSearchAttributes
            ? {
                typedSearchAttributes: typedAttributesOf(input),
              }
            : {}),
        };
        const handle = await inTime(() => client.workflow.start(WORKFLOW.submission, options));
        return { wasEager: handle.eagerlyStarted };
      } catch (error) {
        if (error instanceof WorkflowExecutionAlreadyStartedError) return { wasEager: false };
        throw error;
      }
    },

    async cancelSubmission(submissionId) {
      return signalIfOpen(async () => {
        await inTime(() => client.workflow.getHandle(submissionWorkflowId(submissionId)).cancel());
      });
    },

    async signalPresence(input, presence) {
      const signal = { signal: SIGNAL.presence, signalArgs: [presence] };
      await inTime(() => client.workflow.signalWithStart(WORKFLOW.endpoint, { ...endpointStart(input), ...signal }));
    },

    async signalWaiting(input) {
      const signal = { signal: SIGNAL.waiting, signalArgs: [] };
      await inTime(() => client.workflow.signalWithStart(WORKFLOW.endpoint, { ...endpointStart(input), ...signal }));
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
      const ended: { submissionId: string; status: string }[] = [];
      for await (const { workflowId, status } of client.workflow.list({ query })) {
        const submissionId = submissionIdOfWorkflow(workflowId);
        if (submissionId !== undefined) ended.push({ submissionId, status: status.name });
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

  function endpointStart(input: EndpointInput): {
    workflowId: string;
    taskQueue: string;
    args: [EndpointInput];
    staticSummary: string;
    workflowTaskTimeout: typeof WORKFLOW_TASK_TIMEOUT;
  } {
    return {
      workflowId: endpointWorkflowId(input.taskQueueId),
      taskQueue: config.TEMPORAL_ENDPOINTS_QUEUE,
      args: [input],
      staticSummary: `endpoint ${input.endpointName}`,
      workflowTaskTimeout: WORKFLOW_TASK_TIMEOUT,
    };
  }
}

/** Signals and cancels race with the end of a workflow; a closed one needs neither. */
async function signalIfOpen(send: () => Promise<void>): Promise<boolean> {
  try {
    await send();
    return true;
  } catch (error) {
    if (error instanceof Error && error.name === 'WorkflowNotFoundError') return false;
    throw error;
  }
}

function typedAttributesOf(input: SubmissionInput): TypedSearchAttributes {
  return new TypedSearchAttributes(
    submissionAttributesOf(input).map(({ name, value }) => ({
      key: defineSearchAttributeKey(name, SearchAttributeType.KEYWORD),
      value,
    })),
  );
}

async function ensureSearchAttributes(connection: NativeConnection, namespace: string, log: Logger): Promise<boolean> {
  const keyword = temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD;
  const names = Object.values(SEARCH_ATTRIBUTE);
  try {
    const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
    const missing = names.filter((name) => !(name in customAttributes));
    if (missing.length > 0) {
      await connection.operatorService.addSearchAttributes({
        namespace,
        searchAttributes: Object.fromEntries(missing.map((name) => [name, keyword])),
      });
      await untilListed(connection, namespace, names);
    }
    return true;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (/already exist/i.test(reason)) return true; // another process was first
    log.warn({ reason }, 'the Temporal server refused our search attributes; submissions run without them');
    return false;
  }
}

/** The server caches the list; a start that names an attribute it does not know yet would be refused. */
async function untilListed(connection: NativeConnection, namespace: string, names: readonly string[]): Promise<void> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
    if (names.every((name) => name in customAttributes) || Date.now() > deadline) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
