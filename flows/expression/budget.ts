import { FLOW_ERROR } from '../../contracts/flows';
import { FlowError } from '../errors';

/** What one evaluation may spend; whatever an author writes ends soon, with an error that says so. */

const MAX_STEPS = 200_000;
/** Characters and list places made on the way, also those that are thrown away. */
const MAX_MADE = 5_000_000;

export class Budget {
  #steps = 0;
  #made = 0;

  step(count = 1): void {
    this.#steps += count;
    if (this.#steps > MAX_STEPS) throw over(`takes more than ${MAX_STEPS} steps`);
  }

  /** Before anything of this size is made. */
  make(size: number): void {
    this.#made += size;
    if (!(this.#made <= MAX_MADE)) throw over(`makes values of more than ${MAX_MADE} characters or items`);
  }
}

function over(what: string): FlowError {
  return new FlowError(FLOW_ERROR.intrinsic, `the expression ${what}; do the work in a function on an endpoint`);
}
