import type { PayloadCodec } from '@temporalio/common';

import type { Command } from '../contracts/frames';
import type { BrokerUsers } from '../platform/broker-users';
import type { EndpointQueues, StockQueues } from '../platform/broker-topology';
import type { Config } from '../platform/config';
import type { EngineState } from '../platform/health';
import type { EndpointUsers } from '../platform/endpoint-users';
import type { FlowStarts } from '../platform/flow-starts';
import type { Identities } from '../platform/identities';
import type { Logger } from '../platform/log';
import type { IdentityProvider } from '../platform/oidc/provider';
import type { Schedules } from '../platform/schedules';
import type { Database } from '../platform/store/database';
import type { Accept } from '../accepting/accept';
import type { GroupQueues } from '../accepting/group-queues';
import type { Quotas } from '../accepting/quotas';
import type { Audit } from './audit';
import type { GroupWatch } from './group-watch';
import type { Requeue } from './requeue';
import type { Repeats } from './repeats';
import type { RevocationWatch } from './revocation-watch';
import type { TaskBatches } from './task-batch';
import type { Placement } from '../accepting/placement';

/** The dependencies of the routes. `api/main.ts` builds them; tests use fakes. */
export interface ApiDeps {
  config: Config;
  log: Logger;
  db: Database;
  identities: Identities;
  identityProvider?: IdentityProvider;
  brokerUsers: BrokerUsers;
  queues: EndpointQueues;
  stockQueues: StockQueues;
  endpointUsers: EndpointUsers;
  placement: Placement;
  repeats: Repeats;
  accept: Accept;
  groupQueues: GroupQueues;
  quotas: Quotas;
  audit: Audit;
  cancel: Cancel;
  requeue: Requeue;
  flowStarts: Pick<FlowStarts, 'start' | 'cancel'>;
  schedules: Schedules;
  /** The ID of the latest run of a workflow in Temporal; undefined if Temporal does not know it or does not respond. */
  latestRunOf: (workflowId: string) => Promise<string | undefined>;
  readiness: () => Promise<Record<string, EngineState>>;
  /** The codecs that decrypt payloads of Temporal histories; empty if payloads are not encrypted. */
  payloadCodecs: readonly PayloadCodec[];
  /** PEM of the broker's private certificate authority, if it has one. */
  brokerAuthority: string | undefined;
  groupWatch: GroupWatch;
  taskBatches: TaskBatches;
  revocations: RevocationWatch;
  /** Ends the open tasks of a deleted endpoint. */
  onEndpointDeleted: (endpointId: string) => Promise<void>;
  sendCommand: (endpointId: string, command: Command) => Promise<void>;
  /** Aborted when the process stops; long polls then respond and event streams end. */
  stopping: AbortSignal;
}

export type CancelTarget = { taskIds: string[] } | { submissionId: string } | { taskGroupId: string };

/** Cancels open tasks. The caller has checked that the target belongs to the identity. */
export type Cancel = (target: CancelTarget) => Promise<{ cancelled: number }>;
