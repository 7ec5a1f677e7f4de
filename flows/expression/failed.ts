import { FLOW_ERROR } from '../../contracts/flows';
import { FlowError } from '../errors';

export const failed = (message: string): FlowError => new FlowError(FLOW_ERROR.intrinsic, message);
