import { WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError, type WorkflowStartOptions } from '@temporalio/client';
import { defineSearchAttributeKey, SearchAttributeType, TypedSearchAttributes } from '@temporalio/common';

import { FLOW_WORKFLOW, flowAttributesOf, flowRunIdOfWorkflow, flowWorkflowId, type FlowRunInput } from '../contracts/flows';
import { limitSummary } from '../contracts/temporal-limits';
import type { Config } from './config';
import type { Logger } from './log';
import type { Database } from './store/database';
import { markRunStarted } from './store/flow-run-progress';
import { START_DEADLINE_MS, type Temporal } from './temporal';

/** Starts and cancels the workflows of flow runs. A stored run is accepted: if its start fails here, the sweep starts it. */
export interface FlowStarts {
  /** Never throws. False when the start failed and the sweep must retry it. */
  start(input: Omit<FlowRunInput, 'version'>): Promise<boolean>;
  /** Idempotent, also after the end of the workflow. False when no workflow was started. */
  cancel(runId: string): Promise<boolean>;
  /** Runs whose workflow was terminated, failed or timed out after `since`, with the generation that the workflow ran. */
  listEndedAbnormally(since: Date): Promise<{ runId: string; generation: number; status: string }[]>;
}

/** A resumed run waits this often until the execution of the earlier generation has closed. */
const TRIES = 3;
const PAUSE_MS = 200;

const { KEYWORD } = SearchAttributeType;

export function createFlowStarts(deps: { db: Database; temporal: Temporal; config: Config; log: Logger }): FlowStarts {
  const { db, temporal, config, log } = deps;

  /** False when an execution of an earlier generation is not closed yet. */
  async function startOnce(input: FlowRunInput): Promise<boolean> {
    const workflowId = flowWorkflowId(input.runId);
    try {
      const options: WorkflowStartOptions = {
        workflowId,
        taskQueue: config.TEMPORAL_FLOWS_QUEUE,
        args: [input],
        // A resumed run is another execution with the same id. The first execution must be started only once.
        workflowIdReusePolicy: input.generation === 0 ? 'REJECT_DUPLICATE' : 'ALLOW_DUPLICATE',
        staticSummary: limitSummary(input.title),
        memo: { generation: input.generation },
        ...(temporal.hasSearchAttributes
          ? {
              typedSearchAttributes: new TypedSearchAttributes(
                flowAttributesOf(input).map(({ name, value }) => ({ key: defineSearchAttributeKey(name, KEYWORD), value })),
              ),
            }
          : {}),
      };
      await temporal.withDeadline(() => temporal.client.workflow.start(FLOW_WORKFLOW.run, options), START_DEADLINE_MS);
      return true;
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
      if (input.generation === 0) return true;
      const { memo } = await temporal.withDeadline(() => temporal.client.workflow.getHandle(workflowId).describe());
      return memo?.generation === input.generation;
    }
  }

  return {
    async start(given) {
      const input: FlowRunInput = { version: 1, ...given };
      try {
        for (let attempt = 1; !(await startOnce(input)); attempt++) {
          if (attempt === TRIES) return false;
          await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * attempt));
        }
        await markRunStarted(db, input.runId, input.generation);
        return true;
      } catch (error) {
        log.debug({ err: error, runId: input.runId }, 'the workflow of a flow run did not start; the sweep starts it');
        return false;
      }
    },

    async cancel(runId) {
      try {
        await temporal.withDeadline(() => temporal.client.workflow.getHandle(flowWorkflowId(runId)).cancel());
        return true;
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return false;
        throw error;
      }
    },

    async listEndedAbnormally(since) {
      const query =
        `WorkflowType = '${FLOW_WORKFLOW.run}' AND ExecutionStatus IN ('Terminated', 'Failed', 'TimedOut')` +
        ` AND CloseTime > '${since.toISOString()}'`;
      const ended: { runId: string; generation: number; status: string }[] = [];
      for await (const { workflowId, status, memo } of temporal.client.workflow.list({ query })) {
        const runId = flowRunIdOfWorkflow(workflowId);
        if (runId !== undefined) ended.push({ runId, generation: Number(memo?.generation ?? 0), status: status.name });
      }
      return ended;
    },
  };
}
