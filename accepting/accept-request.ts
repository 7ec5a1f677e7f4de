import type { Policy } from '../contracts/policy';
import type { ResultQueue } from '../platform/store/result-queue';
import type { UnansweredRequest } from '../platform/store/unanswered-requests';

/** The request and the response of accept, which every wire uses. */

/** Where calls run. */
export interface CallTarget {
  /** Already checked for access. */
  endpoint: { id: string; name: string };
  endpointQueueId: string;
  policy: Policy;
}

export interface AcceptedCalls {
  functionId: string;
  functionName: string;
  /** Size of the function's code, which the message of each task may contain. */
  codeBytes: number;
  payloads: (string | ReferringPayload)[];
  /** Set in a request with calls for several endpoints. All of them are stored, or none. */
  target?: CallTarget;
}

/** The target is that of calls without a target of their own. */
export interface AcceptRequest extends CallTarget {
  owner: { id: string; name: string };
  /** Absent or unknown: a new group is created. A group of another owner: FORBIDDEN. */
  taskGroupId?: string;
  /** Unless `none`, the result queue of the group is declared before the response. */
  resultQueue: ResultQueue;
  calls: AcceptedCalls[];
  resourceSpecification?: Record<string, unknown>;
  resultSerializers?: string[];
  traceparent?: string;
  /** The same key and hash get the same response; another hash is a CONFLICT. */
  idempotency?: { key: string; bodyHash: Buffer };
  /** True: the caller, itself a workflow, starts the workflows of the submissions. If the caller ends first, the sweep does. */
  startsItself?: boolean;
  /** Stored with the bodies until the response is written, so that a repeat without an idempotency key is recognized. */
  unanswered?: UnansweredRequest;
}

/** A body into which results of earlier tasks are inserted when it is dispatched. */
export interface ReferringPayload {
  text: string;
  sources: readonly string[];
  /** Size of the complete body. */
  bytes: number;
}

export interface Accepted {
  requestId: string;
  taskGroupId: string;
  /** Task ids in the order of the payloads, by {@link tasksKey} of their calls. */
  tasks: Record<string, string[]>;
}

/** The ID of the function, and before it the ID of the endpoint if the calls have a target of their own. */
export const tasksKey = (functionId: string, endpointId?: string): string =>
  endpointId === undefined ? functionId : `${endpointId}/${functionId}`;
