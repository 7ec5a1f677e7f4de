/** For workflow code: safe in Temporal's sandbox. The plugin for clients and workers is `@funcx-temporal/sdk/temporal`. */
export { call, isReference, map, type CallOptions, type MapOptions, type Settled } from './call';
export { FuncXEndpointOffline, FuncXMapError, FuncXTaskError } from './errors';
export {
  javascriptFunction,
  pythonFunction,
  registeredFunction,
  type Argument,
  type Arguments,
  type Reference,
  type RemoteFunction,
} from './functions';
export { callsQuery, describeCalls, showCalls } from './progress';
export type { CallFailure, CallProgress, MapFailure } from '../../contracts/calls';
