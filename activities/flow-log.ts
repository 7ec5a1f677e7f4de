import { FLOW_CODE, type FlowLogEntry } from '../contracts/flows';
import { withoutPrivateKeys } from '../flows/parameters';
import { isJsonObject, measure, type Json, type JsonObject } from '../flows/values';
import type { RunUpdate } from '../platform/store/flow-run-progress';
import { storableText } from '../platform/store/storable';

/** What one step writes for people: log entries and the details of the run. Hides private values and limits their size. */

const MAX_CHARS = 64_000;
/**
 * A line that has entered more than MANY_STATES states logs at most FEW_CHARS of each value. After TOO_MANY_STATES states, it no
 * longer logs its `Pass`, `Choice` and `ExpressionEval` states.
 */
const MANY_STATES = 5_000;
const FEW_CHARS = 500;
const TOO_MANY_STATES = 100_000;
const MAX_OUTPUT_CHARS = 1_200_000;

export class FlowLog {
  readonly #entries: FlowLogEntry[] = [];
  #details: Record<string, unknown> | undefined;
  #end: Pick<RunUpdate, 'status' | 'completionTime'> = {};

  constructor(
    private readonly line: string,
    private readonly entered_: number,
    private readonly scope: readonly string[] = [],
  ) {}

  /** `lines`: number of lines of a `Map` or `Parallel` state. */
  entered(name: string, type: string, input: Json, nowMs: number, lines?: number): void {
    this.#add(nowMs, `${type}Started`, `State ${name} of type ${type} started`, {
      state_name: name,
      state_type: type,
      input: this.#shown(input),
      lines,
    });
  }

  left(name: string, type: string, data: Json, nowMs: number): void {
    this.#add(nowMs, `${type}Completed`, `State ${name} of type ${type} completed`, {
      state_name: name,
      state_type: type,
      output: this.#shown(data),
    });
  }

  failed(name: string, type: string, error: string, cause: Json, nowMs: number): void {
    if (type === 'Fail') return;
    this.#add(nowMs, `${type}Failed`, `State ${name} of type ${type} failed: ${error}`, {
      state_name: name,
      state_type: type,
      error,
      cause: this.#shown(cause),
    });
  }

  /** Sets what the run shows while one of its states is active. `update` ignores it for inner lines. */
  active(name: string, description: string, statuses: Record<string, unknown>[]): void {
    this.#details = { code: FLOW_CODE.active, description, state_name: name, action_statuses: statuses };
  }

  succeeded(data: Json, nowMs: number): void {
    if (this.line !== '') return;
    const output = bounded(withoutPrivateKeys(data), MAX_OUTPUT_CHARS);
    const description = 'The Flow Instance completed successfully';
    this.#add(nowMs, FLOW_CODE.succeeded, description, { output: this.#shown(data) });
    this.#details = { code: FLOW_CODE.succeeded, description, output };
    this.#end = { status: 'SUCCEEDED', completionTime: new Date(nowMs).toISOString() };
  }

  ended(name: string, error: string, cause: Json, message: string, data: Json, nowMs: number): void {
    if (this.line !== '') return;
    const time = new Date(nowMs).toISOString();
    const sentence = message === '' ? error : `${error}: ${message}`;
    const description = `The Flow Instance failed in the state ${name}: ${sentence}`.slice(0, 2_000);
    this.#add(nowMs, FLOW_CODE.failed, description, { state_name: name, error, cause: this.#shown(cause) });
    this.#details = {
      code: FLOW_CODE.failed,
      description: storableText(description),
      time,
      state_name: name,
      error,
      cause: bounded(cause, MAX_CHARS),
      output: bounded(withoutPrivateKeys(data), MAX_OUTPUT_CHARS),
    };
    this.#end = { status: 'FAILED', completionTime: time };
  }

  update(isRun: boolean): RunUpdate {
    return { entries: this.#entries, ...(isRun ? { details: this.#details, ...this.#end } : {}) };
  }

  #add(nowMs: number, code: string, description: string, details: Record<string, unknown>): void {
    const isPlain = /^(Pass|Choice|ExpressionEval)/.test(code);
    if (isPlain && this.entered_ > TOO_MANY_STATES) return;
    this.#entries.push({
      time: new Date(nowMs).toISOString(),
      code,
      description: storableText(description),
      details: this.line === '' ? details : { ...details, line: this.line, within: withinOf(this.line, this.scope) },
    });
  }

  #shown(value: Json): Json {
    return bounded(withoutPrivateKeys(value), this.entered_ > MANY_STATES ? FEW_CHARS : MAX_CHARS);
  }
}

/** The states that enclose a line, each with the number of the item or branch, such as `["Fan[3]", "Both[0]"]`. */
function withinOf(line: string, scope: readonly string[]): string[] {
  return line.split('/').map((part, at) => `${scope[2 * at] ?? ''}[${part.split('.').at(-1) ?? ''}]`);
}

/** The value, or as much of it as fits. Parts that are too large are replaced by a note with their size. */
function bounded(value: Json, maxChars: number): Json {
  if (measure(value).size <= maxChars) return value;
  const note = (size: number): JsonObject => ({ $funcx: 'omitted', size });
  if (!isJsonObject(value)) return note(measure(value).size);
  const result: JsonObject = {};
  let left = maxChars;
  for (const [key, item] of Object.entries(value)) {
    const { size } = measure(item);
    const fits = size <= left;
    left -= fits ? size : 50;
    result[key] = fits ? item : note(size);
    if (left <= 0) break;
  }
  return result;
}
