import type { Command } from '../contracts/frames';
import type { BrokerUsers } from '../platform/broker-users';
import type { EndpointQueues, StockQueues } from '../platform/broker-topology';
import type { Config } from '../platform/config';
import type { EngineState } from '../platform/health';
import type { EndpointUsers } from '../platform/endpoint-users';
import type { FlowStarts } from '../platform/flow-starts';
import type { Identities } from '../platform/identities';
import type { Logger } from '../platform/log';
import type { Database } from '../platform/store/database';
import type { Accept } from '../accepting/accept';
import type { GroupWatch } from './group-watch';
import type { Requeue } from './requeue';
import type { Repeats } from './repeats';
import type { Placement } from '../accepting/placement';

/** What the routes need; `api/main.ts` builds it, tests build it with fakes. */
export interface ApiDeps {
  config: Config;
  log: Logger;
  db: Database;
  identities: Identities;
  brokerUsers: BrokerUsers;
  queues: EndpointQueues;
  /** Of stock endpoints. */
  stockQueues: StockQueues;
  endpointUsers: EndpointUsers;
  placement: Placement;
  repeats: Repeats;
  accept: Accept;
  cancel: Cancel;
  requeue: Requeue;
  flowStarts: FlowStarts;
  /** One entry an engine. */
  readiness: () => Promise<Record<string, EngineState>>;
  /** PEM of the broker's private authority, if there is one. */
  brokerAuthority: string | undefined;
  groupWatch: GroupWatch;
  /** An endpoint was deleted: its open submissions get their answers. */
  onEndpointDeleted: (endpointId: string) => Promise<void>;
  /** Puts a command on the agent's queue. */
  sendCommand: (endpointId: string, command: Command) => Promise<void>;
  /** Aborted when the process stops: long polls answer, event streams end. */
  stopping: AbortSignal;
}

export type CancelTarget = { taskIds: string[] } | { submissionId: string } | { taskGroupId: string };

/** Cancels what has no answer yet. The target was checked to be the owner's. */
export type Cancel = (target: CancelTarget) => Promise<{ cancelled: number }>;
