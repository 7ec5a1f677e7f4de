import { randomUUID } from 'node:crypto';

import { FLOW_ERROR } from '../contracts/flows';
import type { FlowActivities, FlowEvent, FlowStep, ShownState } from '../contracts/flow-steps';
import { FlowError, NeedsReference } from '../flows';
import { readComputeBody } from '../flows/compute';
import type { State } from '../flows/definition';
import { caught, definitionAt, enter, requireFit, retried, settle, stateOf, type Entered, type Moved } from '../flows/machine';
import type { Scope } from '../flows/paths';
import type { Json, JsonObject } from '../flows/values';
import { recordRun } from '../platform/store/flow-runs';
import {
  deleteLines,
  insertLines,
  inTransaction,
  listLines,
  lockLine,
  saveLine,
  type LineRow,
} from '../platform/store/flow-lines';
import type { ActivityDeps } from './deps';
import type { Pending } from './flow-pending';
import { readActionResult, type ComputeOutcome } from './flow-results';
import { FlowLog } from './flow-log';
import { createReferences } from './flow-references';
import { createRuns, type Run } from './flow-runs';

/**
 * Steps of a run. Everything that a state computes happens here, in one transaction with what it writes: so no value enters
 * Temporal's history, another version of the language never breaks a replay, and a step that is asked for again is answered
 * from its row.
 */

export type FlowLineActivities = Pick<FlowActivities, 'openLine' | 'advance'>;

/** One activity runs states for this long, or this many of them. */
const MAX_STATES_A_STEP = 250;
const MAX_STEP_MS = 1_000;
const MAX_SHOWN = 10;
const MAX_CAUSE_CHARS = 1_000;

export function createFlowLineActivities(deps: ActivityDeps): FlowLineActivities {
  const { db, config } = deps;
  const runs = createRuns(db);
  const references = createReferences(db);
  const allowedUrls = config.FUNCX_FLOWS_HTTP_ALLOW;

  return {
    async openLine({ runId, line, generation }) {
      const run = await runs.read(runId);
      return inTransaction(db, async (client) => {
        if (line === '') {
          const first = {
            line,
            scope: [],
            context: {},
            state: run.definition.StartAt,
            data: JSON.stringify(run.input),
            generation: 0,
          };
          await insertLines(client, runId, [first]);
        }
        const row = await lockLine(client, runId, line);
        if (!row) throw new Error(`line ${line} of run ${runId} is not in the store`);
        if (row.status === 'succeeded') return { position: row.position, shown: [], kind: 'succeeded', entered: row.entered };
        if (row.generation >= generation) return (row.step ?? more(row)) as FlowStep;
        // A run that is resumed enters the state in which it ended once more; lines that have ended well stay ended.
        const pending = row.pending as Pending | null;
        const goesOn = pending?.kind === 'map' || pending?.kind === 'parallel';
        const kept = goesOn ? (row.step as FlowStep) : undefined;
        row.position++;
        row.generation = generation;
        row.status = 'running';
        row.error = null;
        if (!goesOn) row.pending = null;
        const step: FlowStep = kept?.kind === 'lines' ? { ...kept, position: row.position } : more(row);
        row.step = step;
        await saveLine(client, runId, row);
        return step;
      });
    },

    async advance({ runId, line, position, event }) {
      const run = await runs.read(runId);
      const loaded = new LoadedResults();
      for (;;) {
        try {
          const outcome = event.kind === 'acted' ? await readOutcome(run, line, event) : undefined;
          return await inTransaction(db, async (client) => {
            const row = await lockLine(client, runId, line);
            if (!row) throw new Error(`line ${line} of run ${runId} is not in the store`);
            if (row.position > position) return row.step as FlowStep; // an answer that got lost
            const stepper = new Stepper(run, row, loaded, allowedUrls);
            await stepper.take(event, outcome, async (prefix) => {
              const lines = await listLines(client, runId, prefix);
              return lines;
            });
            const step = stepper.finish();
            await saveLine(client, runId, row);
            if (stepper.newLines.length > 0) await insertLines(client, runId, stepper.newLines);
            for (const prefix of stepper.oldPrefixes) await deleteLines(client, runId, prefix);
            await recordRun(client, runId, stepper.log.update(line === ''));
            return step;
          });
        } catch (error) {
          if (!(error instanceof NeedsReference)) throw error;
          await loaded.load(error.taskId, () => references.load(run.ownerId, error.taskId));
        }
      }
    },
  };

  async function readOutcome(run: Run, line: string, event: FlowEvent & { kind: 'acted' }): Promise<ComputeOutcome | undefined> {
    return readActionResult(db, { runId: run.runId, line }, event);
  }
}

/** What cannot be loaded fails the state that looks into it. */
class LoadedResults extends Map<string, Json> {
  readonly #failures = new Map<string, FlowError>();

  async load(taskId: string, read: () => Promise<Json>): Promise<void> {
    try {
      this.set(taskId, await read());
    } catch (error) {
      if (!(error instanceof FlowError)) throw error;
      this.#failures.set(taskId, error);
    }
  }

  override get(taskId: string): Json | undefined {
    const failure = this.#failures.get(taskId);
    if (failure) throw failure;
    return super.get(taskId);
  }
}

const more = (row: LineRow): FlowStep => ({ position: row.position, shown: [], kind: 'more' });

type Told =
  | { kind: 'more' }
  | { kind: 'wait'; untilMs: number; summary: string }
  | { kind: 'action' | 'http'; state: string; waitTimeS: number }
  | { kind: 'lines'; state: string; prefix: string; count: number; concurrency: number; tolerated: number }
  | { kind: 'succeeded'; entered: number }
  | { kind: 'failed'; error: string; cause: string };

type ReadLines = (prefix: string) => ReturnType<typeof listLines>;

/** One step of one line: what became of the last one, then states until the workflow is needed. Changes the row. */
class Stepper {
  readonly log: FlowLog;
  readonly newLines: Parameters<typeof insertLines>[2][number][] = [];
  readonly oldPrefixes: string[] = [];
  readonly #shown: ShownState[] = [];
  readonly #startedMs = Date.now();
  #data: Json;
  #told: Told | undefined;

  constructor(
    private readonly run: Run,
    private readonly row: LineRow,
    private readonly loaded: ReadonlyMap<string, Json>,
    private readonly allowedUrls: readonly string[],
  ) {
    this.#data = JSON.parse(row.data) as Json;
    this.log = new FlowLog(row.line, row.entered);
  }

  async take(event: FlowEvent, outcome: ComputeOutcome | undefined, readLines: ReadLines): Promise<void> {
    if (this.row.status !== 'running') {
      this.#told = this.#ended();
      return;
    }
    if (this.row.pending) await this.#resolve(event, outcome, readLines);
    for (let n = 0; !this.#told; n++) {
      if (n >= MAX_STATES_A_STEP || Date.now() - this.#startedMs > MAX_STEP_MS) this.#told = { kind: 'more' };
      else this.#enterNext();
    }
  }

  finish(): FlowStep {
    const { row } = this;
    row.position++;
    row.data = JSON.stringify(this.#data);
    const told = this.#told ?? { kind: 'more' };
    const step: FlowStep = { position: row.position, shown: this.#shown.slice(-MAX_SHOWN), ...told };
    row.step = step;
    return step;
  }

  #state(): { name: string; state: State } {
    const name = this.row.state ?? '';
    return { name, state: stateOf(definitionAt(this.run.definition, this.row.scope), name) };
  }

  #scope(): Scope {
    return { data: this.#data, context: { ...this.run.context, ...(this.row.context as JsonObject) }, loaded: this.loaded };
  }

  #enterNext(): void {
    const { name, state } = this.#state();
    const nowMs = Date.now();
    this.row.entered++;
    if (this.row.entered === 1 && this.row.line === '') {
      const tooMuch = attempt(() => requireFit(this.#data));
      if (tooMuch) return this.#fail(name, state, tooMuch, nowMs);
    }
    const failure = attempt(() => this.#enter(name, state, nowMs));
    if (failure) this.#fail(name, state, failure, nowMs);
  }

  #enter(name: string, state: State, nowMs: number): void {
    const entered = enter(state, this.#scope(), nowMs, this.allowedUrls);
    // Before the log is written: a body that is wrong is the state's failure.
    if (entered.kind === 'action' && entered.provider.startsWith('compute')) readComputeBody(entered.provider, entered.body);
    if (entered.kind !== 'failed') this.log.entered(name, state.Type, entered.input, nowMs);
    switch (entered.kind) {
      case 'moved':
        return this.#move(name, state, entered, nowMs, 'done');
      case 'failed':
        return this.#end(name, state, new FlowError(entered.error, entered.cause), nowMs);
      case 'wait':
        this.row.pending = pendingOf({ kind: 'wait', startedMs: nowMs });
        this.log.active(name, `The Flow Instance waits in the state ${name}`, []);
        this.#show(name, state, 'running', nowMs);
        this.#told = { kind: 'wait', untilMs: entered.untilMs, summary: name };
        return;
      case 'action':
        return this.#act(name, state, entered, nowMs);
      case 'map':
      case 'parallel':
        return this.#fanOut(name, state, entered, nowMs);
    }
  }

  #act(name: string, state: State, entered: Entered & { kind: 'action' }, nowMs: number): void {
    const actionId = entered.provider === 'hello' ? randomUUID() : undefined;
    const { body, provider, url, waitTimeS } = entered;
    const retries = (this.row.pending as Pending | null)?.retries;
    this.row.pending = pendingOf({
      kind: 'action',
      startedMs: nowMs,
      body,
      provider,
      url,
      ...(retries ? { retries } : {}),
      ...(actionId ? { actionId } : {}),
    });
    this.log.active(name, `The Flow Instance runs the action of the state ${name}`, [
      { state_name: name, status: 'ACTIVE', display_status: 'ACTIVE', start_time: new Date(nowMs).toISOString() },
    ]);
    this.#show(name, state, 'running', nowMs);
    if (provider !== 'hello') {
      this.#told = { kind: provider === 'http' ? 'http' : 'action', state: name, waitTimeS };
      return;
    }
    const { sleep_time: pause = 0 } = body as { sleep_time?: Json };
    const seconds = typeof pause === 'number' && pause > 0 ? pause : 0;
    if (seconds === 0) return this.#resolveHello(name, state, nowMs);
    this.#told = { kind: 'wait', untilMs: nowMs + Math.min(seconds, waitTimeS) * 1_000, summary: name };
  }

  #fanOut(name: string, state: State, entered: Entered & { kind: 'map' | 'parallel' }, nowMs: number): void {
    const { line, scope, generation, position } = this.row;
    const prefix = `${line === '' ? '' : `${line}/`}${position}.`;
    const lines =
      entered.kind === 'map'
        ? entered.items.map(({ data, context }) => ({ data, context, at: '-' }))
        : Array.from({ length: entered.branches }, (_, at) => ({ data: entered.data, context: {}, at: String(at) }));
    if (lines.length === 0) return this.#move(name, state, settle(state, this.#data, []), nowMs, 'done');
    lines.forEach(({ data, context, at }, index) => {
      const inner = [...scope, name, at];
      const start = definitionAt(this.run.definition, inner).StartAt;
      const merged = { ...(this.row.context as JsonObject), ...context };
      this.newLines.push({
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
    const retries = (this.row.pending as Pending | null)?.retries;
    this.row.pending = pendingOf({
      kind: entered.kind,
      startedMs: nowMs,
      prefix,
      count: lines.length,
      tolerated,
      ...(retries ? { retries } : {}),
    });
    this.log.active(name, `The Flow Instance runs ${lines.length} lines of the state ${name}`, []);
    this.#show(name, state, 'running', nowMs);
    this.#told = { kind: 'lines', state: name, prefix, count: lines.length, concurrency, tolerated };
  }

  /** The state that was entered has its end. */
  async #resolve(event: FlowEvent, outcome: ComputeOutcome | undefined, readLines: ReadLines): Promise<void> {
    const pending = this.row.pending as Pending;
    const { name, state } = this.#state();
    const nowMs = Date.now();
    const lines = event.kind === 'joined' && pending.prefix !== undefined ? await readLines(pending.prefix) : [];
    const failure = attempt(() => {
      switch (pending.kind) {
        case 'wait':
          return this.#move(name, state, { data: this.#data, next: state.End === true ? undefined : state.Next }, nowMs, 'done');
        case 'retry':
          // Entered once more, with what was counted.
          return undefined;
        case 'map':
        case 'parallel':
          return this.#join(name, state, pending, lines, nowMs);
        default:
          if (pending.provider === 'hello') return this.#resolveHello(name, state, nowMs);
          return this.#resolveAction(name, state, pending, event, outcome, nowMs);
      }
    });
    if (failure) this.#fail(name, state, failure, nowMs);
  }

  #resolveAction(
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
      ? outcome.status({ stateName: name, creator: this.run.creator, startedMs: pending.startedMs, nowMs, isTimedOut })
      : { ...(pending.status ?? {}), state_name: name };
    if (isTimedOut) {
      throw new FlowError(FLOW_ERROR.timeout, `the action of ${name} did not end within its WaitTime, and was given up`, status);
    }
    this.#finishAction(name, state, status, nowMs);
  }

  #resolveHello(name: string, state: State, nowMs: number): void {
    const { body, startedMs, actionId = '' } = this.row.pending as Pending;
    const echo = (body as JsonObject | null)?.echo_string ?? null;
    const time = new Date(nowMs).toISOString();
    const status: JsonObject = {
      action_id: actionId, status: 'SUCCEEDED', display_status: 'SUCCEEDED', state_name: name, creator_id: this.run.creator, label: null,
      manage_by: [], monitor_by: [], release_after: 'P30D', start_time: new Date(startedMs).toISOString(), completion_time: time,
      details: { Hello: 'World', hello: echo },
    }; // prettier-ignore
    this.#finishAction(name, state, status, nowMs);
  }

  #finishAction(name: string, state: State, status: JsonObject, nowMs: number): void {
    if (status.status === 'FAILED' && state.ExceptionOnActionFailure !== false) {
      throw new FlowError(FLOW_ERROR.failed, `the action of ${name} failed`, status);
    }
    this.#move(name, state, settle(state, this.#data, status), nowMs, status.status === 'FAILED' ? 'failed' : 'done');
  }

  #join(name: string, state: State, pending: Pending, lines: Awaited<ReturnType<ReadLines>>, nowMs: number): void {
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
    const moved = settle(state, this.#data, results);
    this.oldPrefixes.push(pending.prefix ?? '');
    this.#move(name, state, moved, nowMs, 'done');
  }

  #move(name: string, state: State, { data, next }: Moved, nowMs: number, how: ShownState['state']): void {
    this.#data = data;
    this.row.pending = null;
    this.log.left(name, state.Type, data, nowMs);
    this.#show(name, state, how, nowMs);
    this.#goTo(next, nowMs);
  }

  #goTo(next: string | undefined, nowMs: number): void {
    if (next !== undefined) {
      this.row.state = next;
      return;
    }
    this.row.status = 'succeeded';
    this.row.state = null;
    this.log.succeeded(this.#data, nowMs);
    this.#told = { kind: 'succeeded', entered: this.row.entered };
  }

  /** A mistake in a state: tried again, caught, or the end of the line. */
  #fail(name: string, state: State, failure: FlowError, nowMs: number): void {
    const pending = this.row.pending as Pending | null;
    const cause = failure.cause_ as Json;
    const again = retried(state, failure.error, pending?.retries ?? {});
    if (again) {
      if (pending?.prefix !== undefined) this.oldPrefixes.push(pending.prefix);
      this.row.pending = pendingOf({ kind: 'retry', startedMs: nowMs, retries: again.counts });
      this.log.failed(name, state.Type, failure.error, cause, nowMs);
      this.#show(name, state, 'retried', nowMs);
      this.#told = { kind: 'wait', untilMs: nowMs + again.delayMs, summary: `${name}, before the next try` };
      return;
    }
    const problem = attempt(() => {
      const moved = caught(state, this.#data, failure.error, cause);
      if (!moved) return this.#end(name, state, failure, nowMs);
      if (pending?.prefix !== undefined) this.oldPrefixes.push(pending.prefix);
      this.#data = moved.data;
      this.row.pending = null;
      this.log.failed(name, state.Type, failure.error, cause, nowMs);
      this.#show(name, state, 'caught', nowMs);
      this.#goTo(moved.next, nowMs);
    });
    if (problem) this.#end(name, state, problem, nowMs);
  }

  #end(name: string, state: State, failure: FlowError, nowMs: number): void {
    const cause = failure.cause_ as Json;
    this.row.status = 'failed';
    this.row.error = { Error: failure.error, Cause: cause };
    // Kept for a resume: the state, what it was given, and lines that have ended well.
    this.log.failed(name, state.Type, failure.error, cause, nowMs);
    this.log.ended(name, failure.error, cause, failure.message, this.#data, nowMs);
    this.#show(name, state, 'failed', nowMs);
    this.#told = this.#ended();
  }

  #ended(): Told {
    const { status, error, entered } = this.row;
    if (status === 'succeeded') return { kind: 'succeeded', entered };
    return { kind: 'failed', error: error?.Error ?? FLOW_ERROR.runtime, cause: sentenceOf(error?.Cause) };
  }

  #show(name: string, state: State, how: ShownState['state'], nowMs: number): void {
    this.#shown.push({ name: name.slice(0, 100), type: state.Type, state: how, sinceMs: nowMs });
  }
}

const pendingOf = (pending: Pending): Pending => pending;

/** For the history of the workflow, which holds no values: what an action returned is in the log of the run. */
const sentenceOf = (cause: unknown): string =>
  typeof cause === 'string' ? cause.slice(0, MAX_CAUSE_CHARS) : 'the log of the run has the status of the action';

const textOf = (cause: unknown): string => (typeof cause === 'string' ? cause : JSON.stringify(cause ?? ''));

/** A mistake of the author; what has to be loaded first, and mistakes of ours, go on. */
function attempt(work: () => void): FlowError | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    if (error instanceof FlowError) return error;
    if (error instanceof RangeError) return new FlowError(FLOW_ERROR.runtime, `a value is nested too deeply: ${error.message}`);
    throw error;
  }
}
