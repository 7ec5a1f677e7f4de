import type { Policy } from '../contracts/policy';
import type { UnansweredRequest } from '../platform/store/unanswered-requests';

/** What every wire hands to accept, and what it gets back. */

export interface AcceptRequest {
  owner: { id: string; name: string };
  /** Already checked for access. */
  endpoint: { id: string; name: string };
  endpointQueueId: string;
  /** Absent: made. Unknown: created. Of another owner: FORBIDDEN. */
  taskGroupId?: string;
  /** The result queue of the group exists before the answer. */
  createQueue: boolean;
  calls: { functionId: string; functionName: string; payloads: (string | ReferringPayload)[] }[];
  policy: Policy;
  resourceSpecification?: Record<string, unknown>;
  resultSerializers?: string[];
  traceparent?: string;
  /** The same key and hash get the same answer; another hash is a CONFLICT. */
  idempotency?: { key: string; bodyHash: Buffer };
  /** The caller, itself a workflow, starts the workflows of the submissions; the sweep does when it dies before. */
  startsItself?: boolean;
  /** Kept with the bodies until the answer is written out, so that a repeat without a key is known. */
  unanswered?: UnansweredRequest;
}

/** A body that is completed with results of earlier tasks when it is sent. */
export interface ReferringPayload {
  text: string;
  sources: readonly string[];
  /** Of the complete body. */
  bytes: number;
}

export interface Accepted {
  requestId: string;
  taskGroupId: string;
  /** Task ids in the order of the payloads, by function id. */
  tasks: Record<string, string[]>;
}
