import { FLOW_ERROR } from '../contracts/flows';
import { FlowError } from '../flows';
import type { Json } from '../flows/values';
import type { Database } from '../platform/store/database';
import { readReferable, readOutcomeText } from '../platform/store/pipelines';

/** Loads results that are in the store, for expressions, paths and choices that read them. */

/** Of all results that one step reads. A step ends after a state that has read much, so this is about one state. */
const MAX_LOADED_BYTES = 128 * 1024 * 1024;
/** Of the values in memory; `[[],[],...]` needs twenty times the memory of its text. */
const MAX_MEMORY_BYTES = 256 * 1024 * 1024;
const BYTES_A_VALUE = 16;
const BYTES_A_CONTAINER = 64;
/** A step that has read more waits until no other step of the process has. */
const MAX_SHARED_BYTES = 4 * 1024 * 1024;
const MAX_SHARED_MEMORY = 32 * 1024 * 1024;
const MAX_WAIT_MS = 60_000;
/** Steps of one owner that wait for their turn. Further ones are tried again later, so that they occupy no activity slots. */
const MAX_WAITING = 4;
/** Each result that turns out to be needed makes the step compute again. */
const MAX_REPEATS_MS = 60_000;

/** The results that one step reads. A result that cannot be loaded fails the state that reads it. */
export interface StepResults extends ReadonlyMap<string, Json> {
  /** True when the step has read so much that it should end before the next state. */
  readonly isLarge: boolean;
  /** `spentMs`: what the evaluation cost that met the result. Throws when the step has to be tried again later. */
  load(taskId: string, spentMs: number): Promise<void>;
  /** Call at the end of the step. */
  release(): void;
}

export function createReferences(db: Database): { open(ownerId: string): StepResults } {
  const turns = createTurns();
  return { open: (ownerId) => new LoadedResults(db, ownerId, turns) };
}

class LoadedResults extends Map<string, Json> implements StepResults {
  readonly #failures = new Map<string, FlowError>();
  #bytes = 0;
  #memory = 0;
  #spentMs = 0;
  #endTurn: (() => void) | undefined;

  constructor(
    private readonly db: Database,
    private readonly ownerId: string,
    private readonly turns: Turns,
  ) {
    super();
  }

  get isLarge(): boolean {
    return this.#bytes > MAX_SHARED_BYTES || this.#memory > MAX_SHARED_MEMORY;
  }

  async load(taskId: string, spentMs: number): Promise<void> {
    try {
      this.#spentMs += spentMs;
      if (this.#spentMs > MAX_REPEATS_MS) throw tooLarge(`the state reads too many results, ${this.size} so far`);
      this.set(taskId, await this.#read(taskId));
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

  release(): void {
    this.#endTurn?.();
    this.#endTurn = undefined;
    this.clear();
  }

  async #read(taskId: string): Promise<Json> {
    const bytes = (await readReferable(this.db, this.ownerId, [taskId])).get(taskId);
    if (bytes === undefined) {
      throw new FlowError(
        FLOW_ERROR.runtime,
        `the referenced result of task ${taskId} no longer exists, or belongs to another identity`,
      );
    }
    if (this.#bytes + bytes > MAX_LOADED_BYTES) {
      const before = this.#bytes === 0 ? '' : `, and the results read before it have ${this.#bytes}`;
      throw tooLarge(`the result of task ${taskId} has ${bytes} bytes${before}`);
    }
    this.#bytes += bytes;
    if (this.#bytes > MAX_SHARED_BYTES) this.#endTurn ??= await this.turns.take(this.ownerId);
    const text = await readOutcomeText(this.db, taskId);
    if (text === undefined) {
      throw new FlowError(
        FLOW_ERROR.runtime,
        `the result of task ${taskId} is not JSON, so only another Compute action can read it; return plain values from the function`,
      );
    }
    this.#memory += memoryOf(text);
    if (this.#memory > MAX_MEMORY_BYTES)
      throw tooLarge(`the result of task ${taskId}, with those read before it, has many values`);
    return JSON.parse(text) as Json;
  }
}

const tooLarge = (what: string): FlowError =>
  new FlowError(FLOW_ERROR.dataLimit, `${what}, too many to read in an expression; use a function`);

/** The memory that the value of this JSON text needs, roughly. */
function memoryOf(text: string): number {
  let values = 1;
  let containers = 0;
  let isString = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '"') isString = !isString;
    else if (isString) at += char === '\\' ? 1 : 0;
    else if (char === ',' || char === ':') values++;
    else if (char === '[' || char === '{') containers++;
  }
  return text.length + values * BYTES_A_VALUE + containers * BYTES_A_CONTAINER;
}

interface Turns {
  /** Resolves when no other step has the turn; call the result to end the turn. Owners take turns. */
  take(ownerId: string): Promise<() => void>;
}

function createTurns(): Turns {
  /** By owner; the owner whose turn is next comes first. */
  const waiting = new Map<string, ((end: () => void) => void)[]>();
  let isTaken = false;

  const end = (): void => {
    isTaken = false;
    const [next] = waiting;
    if (!next) return;
    const [ownerId, steps] = next;
    waiting.delete(ownerId);
    const start = steps.shift();
    if (steps.length > 0) waiting.set(ownerId, steps);
    if (start) give(start);
    else end();
  };
  const give = (start: (end: () => void) => void): void => {
    isTaken = true;
    start(end);
  };
  const late = (): Error => new Error('other steps of this process read large results; the step is tried again');

  return {
    take(ownerId) {
      return new Promise((resolve, reject) => {
        if (!isTaken) return give(resolve);
        const steps = waiting.get(ownerId) ?? [];
        if (steps.length >= MAX_WAITING) return reject(late());
        const timer = setTimeout(() => {
          steps.splice(steps.indexOf(start), 1);
          if (steps.length === 0) waiting.delete(ownerId);
          reject(late());
        }, MAX_WAIT_MS);
        const start = (ended: () => void): void => {
          clearTimeout(timer);
          resolve(ended);
        };
        steps.push(start);
        waiting.set(ownerId, steps);
      });
    },
  };
}
