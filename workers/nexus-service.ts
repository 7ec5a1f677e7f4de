import { startWorkflow, WorkflowRunOperationHandler, type WorkflowHandle } from '@temporalio/nexus';
import { operation, service, serviceHandler, type Link, type ServiceHandler, type StartOperationContext } from 'nexus-rpc';

import {
  CALL_NEXUS,
  CALL_WORKFLOW,
  type CallInput,
  type CallOrigin,
  type MapInput,
  type MapResult,
  type PipelineRun,
} from '../contracts/calls';

/** The calls of pipelines as Nexus operations. Each operation starts the workflow that a pipeline can also start as its child. */

const calls = service(CALL_NEXUS.service, {
  [CALL_NEXUS.call]: operation<CallInput, unknown>(),
  [CALL_NEXUS.map]: operation<MapInput, MapResult>(),
});

export function createNexusService(): ServiceHandler {
  return serviceHandler(calls, {
    [CALL_NEXUS.call]: new WorkflowRunOperationHandler<CallInput, unknown>((ctx, input) =>
      startCall(ctx, CALL_WORKFLOW.call, input),
    ),
    [CALL_NEXUS.map]: new WorkflowRunOperationHandler<MapInput, MapResult>((ctx, input) =>
      startCall(ctx, CALL_WORKFLOW.map, input),
    ),
  });
}

type CallWorkflow<I, O> = (input: I, origin: CallOrigin) => Promise<O>;

/** The request id is the same for every attempt of an operation, so retries do not start another call. */
async function startCall<I extends CallInput | MapInput, O>(
  ctx: StartOperationContext,
  type: string,
  input: I,
): Promise<WorkflowHandle<O>> {
  const pipeline = pipelineOf(ctx.inboundLinks);
  const label = labelOf(input);
  return startWorkflow<CallWorkflow<I, O>>(ctx, type, {
    workflowId: `${pipeline?.workflowId ?? 'nexus'}/${label}-${ctx.requestId}`,
    args: [input, pipeline ? { pipeline } : {}],
    staticSummary: label,
  });
}

/** A label for people. The call itself validates the input. */
function labelOf(input: unknown): string {
  const name = (input as { function?: unknown } | null)?.function;
  return typeof name === 'string' ? (name.split('@', 1)[0] ?? '').slice(0, 100) : 'call';
}

const EVENT_LINK = 'temporal.api.common.v1.Link.WorkflowEvent';
const EVENT_PATH = /^\/namespaces\/([^/]+)\/workflows\/([^/]+)\/([^/]+)\/history$/;

/** The calling workflow. The server links the event that scheduled the operation. */
function pipelineOf(links: readonly Link[]): PipelineRun | undefined {
  for (const { type, url } of links) {
    const parts = type === EVENT_LINK ? EVENT_PATH.exec(url.pathname) : null;
    if (!parts) continue;
    const [namespace = '', workflowId = '', runId = ''] = parts.slice(1).map(decodeURIComponent);
    return { namespace, workflowId, runId };
  }
  return undefined;
}
