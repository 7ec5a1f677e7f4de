import type { FlowError } from '../errors';
import { intrinsicError } from './intrinsic-error';

/** Limits what expressions and comparisons of a state may spend, each alone and all together, so that every state ends soon. */

const MAX_OPERATIONS = 200_000;
/** Characters and list items that are created during an evaluation, including those of intermediate values. */
const MAX_CREATED = 5_000_000;
/** Of all expressions of a state together: a `Map` evaluates some for each of its items. */
const MAX_ALL_OPERATIONS = 5_000_000;
const MAX_ALL_CREATED = 100_000_000;
/** Characters that are read at the price of one operation. */
const CHARS_AN_OPERATION = 1_000;
/** Far more than all operations need; only what costs more than it should meets this limit. */
const MAX_STATE_MS = 10_000;
const OPERATIONS_BETWEEN_LOOKS = 1_000;

export class Budget {
  #operations = 0;
  #created = 0;
  #allOperations = 0;
  #allCreated = 0;
  #nextLook = OPERATIONS_BETWEEN_LOOKS;

  constructor(private readonly untilMs = Date.now() + MAX_STATE_MS) {}

  beginExpression(): void {
    this.#operations = 0;
    this.#created = 0;
  }

  countOperation(count = 1): void {
    this.#operations += count;
    this.#allOperations += count;
    if (this.#operations > MAX_OPERATIONS) throw over(`takes more than ${MAX_OPERATIONS} operations`);
    if (this.#allOperations > MAX_ALL_OPERATIONS)
      throw over(`takes, with the others of its state, more than ${MAX_ALL_OPERATIONS} operations`);
    if (this.#allOperations < this.#nextLook) return;
    this.#nextLook = this.#allOperations + OPERATIONS_BETWEEN_LOOKS;
    if (Date.now() > this.untilMs) throw over('takes too long');
  }

  /** Call when characters of a string, or keys of an object, are read. */
  read(length: number): void {
    this.countOperation(length / CHARS_AN_OPERATION);
  }

  /** Call before something of this size is created. */
  reserve(size: number): void {
    this.#created += size;
    this.#allCreated += size;
    // Also refuses NaN.
    if (!(this.#created <= MAX_CREATED)) throw over(`creates values of more than ${MAX_CREATED} characters or items`);
    if (this.#allCreated > MAX_ALL_CREATED)
      throw over(`creates, with the others of its state, values of more than ${MAX_ALL_CREATED} characters or items`);
  }
}

function over(what: string): FlowError {
  return intrinsicError(`the expression ${what}; do the work in a function on an endpoint`);
}
