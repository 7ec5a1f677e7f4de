import { ApplicationFailure, ChildWorkflowFailure } from '@temporalio/workflow';

import { CALL_FAILURE, type CallFailure, type MapFailure } from '../../contracts/calls';

/** Failures of calls that a pipeline can catch. If not caught, they fail the pipeline with the remote traceback. */

/** The function failed, or its task was cancelled, expired or lost. */
export class FuncXTaskError extends ApplicationFailure {
  constructor(
    message: string,
    readonly detail: CallFailure,
    cause?: Error,
  ) {
    super(message, CALL_FAILURE.task, true, [detail], cause);
  }

  /** The error code of the task; RemoteExecutionError if the function raised an exception. */
  get code(): string {
    return this.detail.code;
  }

  /** Class name of the remote exception. */
  get exception(): string | undefined {
    return this.detail.exception;
  }

  /** The remote traceback. */
  get traceback(): string {
    return this.detail.traceback;
  }
}

/** Thrown when more calls of a map failed than its policy tolerates. */
export class FuncXMapError extends ApplicationFailure {
  constructor(
    message: string,
    readonly detail: MapFailure,
    cause?: Error,
  ) {
    super(message, CALL_FAILURE.map, true, [detail], cause);
  }
}

/** Thrown when the endpoint was offline for longer than the call may wait. */
export class FuncXEndpointOffline extends ApplicationFailure {
  constructor(message: string, details: unknown[] = [], cause?: Error) {
    super(message, CALL_FAILURE.offline, true, details, cause);
  }
}

/** Returns the typed failure inside an error of a child workflow. Returns other errors, such as a cancellation, unchanged. */
export function failureOf(thrown: unknown): unknown {
  if (!(thrown instanceof ChildWorkflowFailure) || !(thrown.cause instanceof ApplicationFailure)) return thrown;
  const { cause } = thrown;
  const [detail] = cause.details ?? [];
  switch (cause.type) {
    case CALL_FAILURE.task:
      return new FuncXTaskError(cause.message, detail as CallFailure, thrown);
    case CALL_FAILURE.map:
      return new FuncXMapError(cause.message, detail as MapFailure, thrown);
    case CALL_FAILURE.offline:
      return new FuncXEndpointOffline(cause.message, cause.details ?? [], thrown);
    default:
      return ApplicationFailure.create({
        message: cause.message,
        type: cause.type ?? undefined,
        nonRetryable: true,
        details: cause.details ?? [],
        cause: thrown,
      });
  }
}
