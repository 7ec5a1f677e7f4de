export { Client } from './client';
export { Executor } from './executor';
export { TaskFuture } from './future';
export { functionFile, javascript, python, pythonFile, shell } from './functions';
export { SerializedValue } from './values';
export { ApiError, ConnectionError, ExecutorClosedError, FuncXError, TaskCancelledError, TaskError } from './errors';
export type {
  CallRequest,
  EndpointDocument,
  EndpointState,
  EndpointStatus,
  FunctionDocument,
  FunctionSummary,
  GroupResults,
  IdentityDocument,
  IdentityGroup,
  TaskSummary,
  PackedCall,
  RetryResponse,
  Submission,
  SubmissionFilter,
  SubmissionSummary,
  SubmitOptions,
  Submitted,
  TaskDocument,
  TaskState,
  TasksOf,
} from './client';
export type { ClientOptions } from '../client';
export type { Callable, ExecutorOptions } from './executor';
export type { AnyFunction, FunctionSource, RegisterOptions, ShellResult } from './functions';
export type { Transport } from './group-listener';
export type { CallPolicy } from './policy';
