import { FLOW_ERROR } from '../../contracts/flows';
import { FlowError } from '../errors';

/** The error of an expression whose evaluation failed; a `Catch` may name it. */
export const intrinsicError = (message: string): FlowError => new FlowError(FLOW_ERROR.intrinsic, message);
