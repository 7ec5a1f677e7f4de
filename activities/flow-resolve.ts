import { FLOW_ERROR } from '../contracts/flows';
import type { FlowEvent } from '../contracts/flow-steps';
import { FlowError } from '../flows';
import type { State } from '../flows/definition';
import { settle } from '../flows/machine';
import type { Json, JsonObject } from '../flows/values';
import type { listLines } from '../platform/store/flow-lines';
import { flowErrorOf, type LineStep } from './flow-line-step';
import type { Pending } from './flow-pending';
import type { ComputeOutcome } from './flow-results';

/** Applies the outcome of the state that a line is in: a timer that fired, an action that ended, or lines that have ended. */

type ReadLines = (prefix: string) => ReturnType<typeof listLines>;

export async function resolve(
  step: LineStep,
  event: FlowEvent,
  outcome: ComputeOutcome | undefined,
  readLines: ReadLines,
): Promise<void> {
  const pending = step.row.pending as Pending;
  const { name, state } = step.state();
  const nowMs = Date.now();
  const lines = event.kind === 'joined' && pending.prefix !== undefined ? await readLines(pending.prefix) : [];
  const failure = flowErrorOf(() => {
    switch (pending.kind) {
      case 'wait':
        return step.move(name, state, { data: step.data, next: state.End === true ? undefined : state.Next }, nowMs, 'done');
      case 'retry':
        // The state is entered again; `pending` keeps its retry counts.
        return undefined;
      case 'map':
      case 'parallel':
        return join(step, name, state, pending, lines, nowMs);
      default:
        if (pending.provider === 'hello') return finishHello(step, name, state, nowMs);
        return resolveAction(step, name, state, pending, event, outcome, nowMs);
    }
  });
  if (failure) step.fail(name, state, failure, nowMs);
}

function resolveAction(
  step: LineStep,
  name: string,
  state: State,
  pending: Pending,
  event: FlowEvent,
  outcome: ComputeOutcome | undefined,
  nowMs: number,
): void {
  if (event.kind === 'refused') throw new FlowError(FLOW_ERROR.unableToRun, event.cause);
  const isTimedOut = (event.kind === 'acted' || event.kind === 'answered') && event.isTimedOut;
  const status = outcome
    ? outcome.status({ stateName: name, creator: step.run.creator, startedMs: pending.startedMs, nowMs, isTimedOut })
    : { ...(pending.status ?? {}), state_name: name };
  if (isTimedOut) {
    throw new FlowError(FLOW_ERROR.timeout, `the action of ${name} did not end within its WaitTime, and was given up`, status);
  }
  finishAction(step, name, state, status, nowMs);
}

export function finishHello(step: LineStep, name: string, state: State, nowMs: number): void {
  const { body, startedMs, actionId = '' } = step.row.pending as Pending;
  const echo = (body as JsonObject | null)?.echo_string ?? null;
  const time = new Date(nowMs).toISOString();
  const status: JsonObject = {
    action_id: actionId, status: 'SUCCEEDED', display_status: 'SUCCEEDED', state_name: name, creator_id: step.run.creator, label: null,
    manage_by: [], monitor_by: [], release_after: 'P30D', start_time: new Date(startedMs).toISOString(), completion_time: time,
    details: { Hello: 'World', hello: echo },
  }; // prettier-ignore
  finishAction(step, name, state, status, nowMs);
}

function finishAction(step: LineStep, name: string, state: State, status: JsonObject, nowMs: number): void {
  if (status.status === 'FAILED' && state.ExceptionOnActionFailure !== false) {
    throw new FlowError(FLOW_ERROR.failed, `the action of ${name} failed`, status);
  }
  step.move(name, state, settle(state, step.data, status), nowMs, status.status === 'FAILED' ? 'failed' : 'done');
}

function join(
  step: LineStep,
  name: string,
  state: State,
  pending: Pending,
  lines: Awaited<ReturnType<ReadLines>>,
  nowMs: number,
): void {
  const failed = lines.filter(({ status }) => status !== 'succeeded');
  const [first] = failed.filter(({ error }) => error !== null);
  if (failed.length > (pending.tolerated ?? 0)) {
    if (pending.kind === 'parallel')
      throw new FlowError(first?.error?.Error ?? FLOW_ERROR.branch, textOf(first?.error?.Cause), first?.error?.Cause ?? '');
    throw new FlowError(
      FLOW_ERROR.tolerated,
      `${failed.length} of ${lines.length} items of ${name} failed, more than tolerated; the first, item ${first?.index ?? 0}: ${first?.error?.Error ?? ''} ${textOf(first?.error?.Cause)}`,
    );
  }
  const results = lines.map(({ status, data, error }) =>
    status === 'succeeded' ? (JSON.parse(data) as Json) : (error as unknown as Json),
  );
  const moved = settle(state, step.data, results);
  step.linePrefixesToDelete.push(pending.prefix ?? '');
  step.move(name, state, moved, nowMs, 'done');
}

const textOf = (cause: unknown): string => (typeof cause === 'string' ? cause : JSON.stringify(cause ?? ''));
