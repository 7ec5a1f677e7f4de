import { FLOW_ERROR } from '../contracts/flows';
import type { FlowStep, ShownState } from '../contracts/flow-steps';
import { FlowError } from '../flows';
import type { State } from '../flows/definition';
import { caught, definitionAt, retried, stateOf, type Moved } from '../flows/machine';
import type { Scope } from '../flows/paths';
import type { Json, JsonObject } from '../flows/values';
import type { insertLines, LineRow } from '../platform/store/flow-lines';
import { FlowLog } from './flow-log';
import type { Pending } from './flow-pending';
import type { Run } from './flow-runs';

/** One step of one line while it runs: the row of the line, and what the states of the step change and write. */

const MAX_SHOWN = 10;
const MAX_CAUSE_CHARS = 1_000;

/** What the workflow must do next. */
type Told =
  | { kind: 'more' }
  | { kind: 'wait'; untilMs: number; summary: string }
  | { kind: 'action' | 'http'; state: string; waitTimeS: number }
  | { kind: 'lines'; state: string; prefix: string; count: number; concurrency: number; tolerated: number }
  | { kind: 'succeeded'; entered: number }
  | { kind: 'failed'; error: string; cause: string };

/** Collects the effects of one step. Changes `row` in place. */
export class LineStep {
  readonly log: FlowLog;
  readonly newLines: Parameters<typeof insertLines>[2][number][] = [];
  readonly oldPrefixes: string[] = [];
  readonly #shown: ShownState[] = [];
  data: Json;
  told: Told | undefined;

  constructor(
    readonly run: Run,
    readonly row: LineRow,
    private readonly loaded: ReadonlyMap<string, Json>,
    readonly allowedUrls: readonly string[],
  ) {
    this.data = JSON.parse(row.data) as Json;
    this.log = new FlowLog(row.line, row.entered, row.scope);
  }

  finish(): FlowStep {
    const { row } = this;
    row.position++;
    row.data = JSON.stringify(this.data);
    const told = this.told ?? { kind: 'more' };
    const step: FlowStep = { position: row.position, shown: this.#shown.slice(-MAX_SHOWN), ...told };
    row.step = step;
    return step;
  }

  state(): { name: string; state: State } {
    const name = this.row.state ?? '';
    return { name, state: stateOf(definitionAt(this.run.definition, this.row.scope), name) };
  }

  scope(): Scope {
    return { data: this.data, context: { ...this.run.context, ...(this.row.context as JsonObject) }, loaded: this.loaded };
  }

  move(name: string, state: State, { data, next }: Moved, nowMs: number, how: ShownState['state']): void {
    this.data = data;
    this.row.pending = null;
    this.log.left(name, state.Type, data, nowMs);
    this.show(name, state, how, nowMs);
    this.goTo(next, nowMs);
  }

  goTo(next: string | undefined, nowMs: number): void {
    if (next !== undefined) {
      this.row.state = next;
      return;
    }
    this.row.status = 'succeeded';
    this.row.state = null;
    this.log.succeeded(this.data, nowMs);
    this.told = { kind: 'succeeded', entered: this.row.entered };
  }

  /** Handles a failure in a state: the state is retried, the failure is caught, or the line ends. */
  fail(name: string, state: State, failure: FlowError, nowMs: number): void {
    const pending = this.row.pending as Pending | null;
    const cause = failure.cause_ as Json;
    const again = retried(state, failure.error, pending?.retries ?? {});
    if (again) {
      if (pending?.prefix !== undefined) this.oldPrefixes.push(pending.prefix);
      this.row.pending = pendingOf({ kind: 'retry', startedMs: nowMs, retries: again.counts });
      this.log.failed(name, state.Type, failure.error, cause, nowMs);
      this.show(name, state, 'retried', nowMs);
      this.told = { kind: 'wait', untilMs: nowMs + again.delayMs, summary: `${name}, before the next try` };
      return;
    }
    const problem = attempt(() => {
      const moved = caught(state, this.data, failure.error, cause);
      if (!moved) return this.end(name, state, failure, nowMs);
      if (pending?.prefix !== undefined) this.oldPrefixes.push(pending.prefix);
      this.data = moved.data;
      this.row.pending = null;
      this.log.failed(name, state.Type, failure.error, cause, nowMs);
      this.show(name, state, 'caught', nowMs);
      this.goTo(moved.next, nowMs);
    });
    if (problem) this.end(name, state, problem, nowMs);
  }

  end(name: string, state: State, failure: FlowError, nowMs: number): void {
    const cause = failure.cause_ as Json;
    this.row.status = 'failed';
    this.row.error = { Error: failure.error, Cause: cause };
    // For a resume, the row keeps the state, its data, and the inner lines that have succeeded.
    this.log.failed(name, state.Type, failure.error, cause, nowMs);
    this.log.ended(name, failure.error, cause, failure.message, this.data, nowMs);
    this.show(name, state, 'failed', nowMs);
    this.told = this.ended();
  }

  ended(): Told {
    const { status, error, entered } = this.row;
    if (status === 'succeeded') return { kind: 'succeeded', entered };
    return { kind: 'failed', error: error?.Error ?? FLOW_ERROR.runtime, cause: sentenceOf(error?.Cause) };
  }

  show(name: string, state: State, how: ShownState['state'], nowMs: number): void {
    this.#shown.push({ name: name.slice(0, 100), type: state.Type, state: how, sinceMs: nowMs });
  }
}

export const pendingOf = (pending: Pending): Pending => pending;

/** The cause for the history of the workflow. The history holds no values; the log of the run has what an action returned. */
const sentenceOf = (cause: unknown): string =>
  typeof cause === 'string' ? cause.slice(0, MAX_CAUSE_CHARS) : 'the log of the run has the status of the action';

/** Runs `work` and returns the author's mistake, if any. Rethrows other errors: `NeedsReference` and bugs of ours. */
export function attempt(work: () => void): FlowError | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    if (error instanceof FlowError) return error;
    if (error instanceof RangeError) return new FlowError(FLOW_ERROR.runtime, `a value is nested too deeply: ${error.message}`);
    throw error;
  }
}
