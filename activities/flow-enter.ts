import { randomUUID } from 'node:crypto';

import { FlowError } from '../flows';
import { readComputeBody } from '../flows/compute';
import type { State } from '../flows/definition';
import { definitionAt, enter, requireFit, settle, type Entered } from '../flows/machine';
import type { Json, JsonObject } from '../flows/values';
import { flowErrorOf, pendingOf, type LineStep } from './flow-line-step';
import type { Pending } from './flow-pending';
import { finishHello } from './flow-resolve';

/** Enters states. States that only compute end immediately; all others need the workflow. */

export function enterNext(step: LineStep): void {
  const { name, state } = step.state();
  const nowMs = Date.now();
  step.row.entered++;
  if (step.row.entered === 1 && step.row.line === '') {
    const tooMuch = flowErrorOf(() => requireFit(step.data));
    if (tooMuch) return step.fail(name, state, tooMuch, nowMs);
  }
  const failure = flowErrorOf(() => enterState(step, name, state, nowMs));
  if (failure) step.fail(name, state, failure, nowMs);
}

function enterState(step: LineStep, name: string, state: State, nowMs: number): void {
  const entered = enter(state, step.visibleData(), nowMs, step.allowedUrls);
  // Check the body before the log is written: an invalid body is a failure of the state.
  if (entered.kind === 'action' && entered.provider.startsWith('compute')) readComputeBody(entered.provider, entered.body);
  if (entered.kind !== 'failed') step.log.entered(name, state.Type, entered.input, nowMs, linesOf(entered));
  switch (entered.kind) {
    case 'moved':
      return step.move(name, state, entered, nowMs, 'done');
    case 'failed':
      return step.end(name, state, new FlowError(entered.error, entered.cause), nowMs);
    case 'wait':
      step.row.pending = pendingOf({ kind: 'wait', startedMs: nowMs });
      step.log.active(name, `The Flow Instance waits in the state ${name}`, []);
      step.show(name, state, 'running', nowMs);
      step.nextAction = { kind: 'wait', untilMs: entered.untilMs, summary: name };
      return;
    case 'action':
      return act(step, name, state, entered, nowMs);
    case 'map':
    case 'parallel':
      return fanOut(step, name, state, entered, nowMs);
  }
}

function act(step: LineStep, name: string, state: State, entered: Entered & { kind: 'action' }, nowMs: number): void {
  const actionId = entered.provider === 'hello' ? randomUUID() : undefined;
  const { body, provider, url, waitTimeS } = entered;
  const retries = (step.row.pending as Pending | null)?.retries;
  step.row.pending = pendingOf({
    kind: 'action',
    startedMs: nowMs,
    body,
    provider,
    url,
    retries,
    actionId,
  });
  step.log.active(name, `The Flow Instance runs the action of the state ${name}`, [
    { state_name: name, status: 'ACTIVE', display_status: 'ACTIVE', start_time: new Date(nowMs).toISOString() },
  ]);
  step.show(name, state, 'running', nowMs);
  if (provider !== 'hello') {
    step.nextAction = { kind: provider === 'http' ? 'http' : 'action', state: name, waitTimeS };
    return;
  }
  const { sleep_time: pause = 0 } = body as { sleep_time?: Json };
  const seconds = typeof pause === 'number' && pause > 0 ? pause : 0;
  if (seconds === 0) return finishHello(step, name, state, nowMs);
  step.nextAction = { kind: 'wait', untilMs: nowMs + Math.min(seconds, waitTimeS) * 1_000, summary: name };
}

function fanOut(
  step: LineStep,
  name: string,
  state: State,
  entered: Entered & { kind: 'map' | 'parallel' },
  nowMs: number,
): void {
  const { line, scope, generation, position } = step.row;
  const prefix = `${line === '' ? '' : `${line}/`}${position}.`;
  const lines =
    entered.kind === 'map'
      ? entered.items.map(({ data, context }) => ({ data, context, at: '-' }))
      : Array.from({ length: entered.branches }, (_, at) => ({ data: entered.data, context: {}, at: String(at) }));
  if (lines.length === 0) return step.move(name, state, settle(state, step.data, []), nowMs, 'done');
  lines.forEach(({ data, context, at }, index) => {
    const inner = [...scope, name, at];
    const start = definitionAt(step.run.definition, inner).StartAt;
    const merged = { ...(step.row.context as JsonObject), ...context };
    step.newLines.push({
      line: `${prefix}${index}`,
      scope: inner,
      context: merged,
      state: start,
      data: JSON.stringify(data),
      generation,
    });
  });
  const tolerated = entered.kind === 'map' ? entered.tolerated : 0;
  const concurrency = entered.kind === 'map' ? entered.concurrency : lines.length;
  const retries = (step.row.pending as Pending | null)?.retries;
  step.row.pending = pendingOf({
    kind: entered.kind,
    startedMs: nowMs,
    prefix,
    count: lines.length,
    tolerated,
    retries,
  });
  step.log.active(name, `The Flow Instance runs ${lines.length} lines of the state ${name}`, []);
  step.show(name, state, 'running', nowMs);
  step.nextAction = { kind: 'lines', state: name, prefix, count: lines.length, concurrency, tolerated };
}

const linesOf = (entered: Entered): number | undefined =>
  entered.kind === 'map' ? entered.items.length : entered.kind === 'parallel' ? entered.branches : undefined;
