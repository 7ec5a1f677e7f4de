import type { FlowError } from '../errors';
import { intrinsicError } from './intrinsic-error';

/** Limits what one evaluation may spend, so that every expression ends soon, with a value or with an error that says why. */

const MAX_OPERATIONS = 200_000;
/** Characters and list items that are created during an evaluation, including those of intermediate values. */
const MAX_CREATED = 5_000_000;

export class Budget {
  #operations = 0;
  #created = 0;

  countOperation(count = 1): void {
    this.#operations += count;
    if (this.#operations > MAX_OPERATIONS) throw over(`takes more than ${MAX_OPERATIONS} operations`);
  }

  /** Call before something of this size is created. */
  reserve(size: number): void {
    this.#created += size;
    // Also refuses NaN.
    if (!(this.#created <= MAX_CREATED)) throw over(`creates values of more than ${MAX_CREATED} characters or items`);
  }
}

function over(what: string): FlowError {
  return intrinsicError(`the expression ${what}; do the work in a function on an endpoint`);
}
