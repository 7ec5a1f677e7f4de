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

/**
 * A *line* is one sequence of states of a run: the run itself, one item of a Map, or one branch of a Parallel. One activity
 * takes a line through as many steps as it can; this class collects what they change.
 */

const MAX_SHOWN = 10;
const MAX_CAUSE_CHARS = 1_000;

/** What the workflow of the line does next. `more`: it starts another step immediately. `lines`: it runs the inner lines. */
type NextAction =
  | { kind: 'more' }
  | { kind: 'wait'; untilMs: number; summary: string }
  | { kind: 'action' | 'http'; state: string; waitTimeS: number }
  | { kind: 'lines'; state: string; prefix: string; count: number; concurrency: number; tolerated: number }
  | { kind: 'succeeded'; entered: number }
  | { kind: 'failed'; error: string; cause: string };

/** Changes `row` in place. */
export class LineStep {
  readonly log: FlowLog;
  readonly newLines: Parameters<typeof insertLines>[2][number][] = [];
  readonly linePrefixesToDelete: string[] = [];
  readonly #shown: ShownState[] = [];
  data: Json;
  nextAction: NextAction | undefined;

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
    const nextAction: NextAction = this.nextAction ?? { kind: 'more' };
    const step: FlowStep = { position: row.position, shown: this.#shown.slice(-MAX_SHOWN), ...nextAction };
    row.step = step;
    return step;
  }

  state(): { name: string; state: State } {
    const name = this.row.state ?? '';
    return { name, state: stateOf(definitionAt(this.run.definition, this.row.scope), name) };
  }

  visibleData(): Scope {
    return { data: this.data, context: { ...this.run.context, ...(this.row.context as JsonObject) }, loaded: this.loaded };
  }

  move(name: string, state: State, { data, next }: Moved, nowMs: number, outcome: ShownState['state']): void {
    this.data = data;
    this.row.pending = null;
    this.log.left(name, state.Type, data, nowMs);
    this.show(name, state, outcome, nowMs);
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
    this.nextAction = { kind: 'succeeded', entered: this.row.entered };
  }

  fail(name: string, state: State, failure: FlowError, nowMs: number): void {
    const pending = this.row.pending as Pending | null;
    const cause = failure.cause_ as Json;
    const again = retried(state, failure.error, pending?.retries ?? {});
    if (again) {
      if (pending?.prefix !== undefined) this.linePrefixesToDelete.push(pending.prefix);
      this.row.pending = pendingOf({ kind: 'retry', startedMs: nowMs, retries: again.counts });
      this.log.failed(name, state.Type, failure.error, cause, nowMs);
      this.show(name, state, 'retried', nowMs);
      this.nextAction = { kind: 'wait', untilMs: nowMs + again.delayMs, summary: `${name}: waits before it is retried` };
      return;
    }
    const problem = flowErrorOf(() => {
      const moved = caught(state, this.data, failure.error, cause);
      if (!moved) return this.end(name, state, failure, nowMs);
      if (pending?.prefix !== undefined) this.linePrefixesToDelete.push(pending.prefix);
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
    // The row keeps the state and its data, and the store the inner lines that have succeeded: a resumed run continues here.
    this.log.failed(name, state.Type, failure.error, cause, nowMs);
    this.log.ended(name, failure.error, cause, failure.message, this.data, nowMs);
    this.show(name, state, 'failed', nowMs);
    this.nextAction = this.ended();
  }

  ended(): NextAction {
    const { status, error, entered } = this.row;
    if (status === 'succeeded') return { kind: 'succeeded', entered };
    return { kind: 'failed', error: error?.Error ?? FLOW_ERROR.runtime, cause: sentenceOf(error?.Cause) };
  }

  show(name: string, state: State, outcome: ShownState['state'], nowMs: number): void {
    this.#shown.push({ name: name.slice(0, 100), type: state.Type, state: outcome, sinceMs: nowMs });
  }
}

/** Checks the type. */
export const pendingOf = (pending: Pending): Pending => pending;

/** Only a cause that is text enters the history of the workflow, cut to a limit. For other causes, the history names the log. */
const sentenceOf = (cause: unknown): string =>
  typeof cause === 'string' ? cause.slice(0, MAX_CAUSE_CHARS) : 'the log of the run has the status of the action';

/** Returns the {@link FlowError} that `work` throws, which the flow handles. Rethrows others: `NeedsReference`, and bugs. */
export function flowErrorOf(work: () => void): FlowError | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    if (error instanceof FlowError) return error;
    if (error instanceof RangeError) return new FlowError(FLOW_ERROR.runtime, `a value is nested too deeply: ${error.message}`);
    throw error;
  }
}
