import type { Measure } from '../measures';
import type { MeasuredSystem } from '../system';

/** How much a part measures. With `QUICK`, a part takes about a minute. */
export interface Scale {
  rounds: number;
  /** Submissions of 1,000 tasks in one round. */
  submissions: number;
  /** Calls of each client, where several clients send single calls at the same time. */
  callsPerClient: number;
  /** Calls for one latency figure. */
  latencyCalls: number;
  payloadBytes: readonly number[];
  backlogTasks: number;
  drainTasks: number;
  tasksPerOwner: number;
  idleAgents: number;
  idleSeconds: number;
}

export const FULL: Scale = {
  rounds: 5,
  submissions: 5,
  callsPerClient: 20,
  latencyCalls: 100,
  payloadBytes: [1_000, 32_000, 256_000, 1_000_000, 8_000_000],
  backlogTasks: 100_000,
  drainTasks: 50_000,
  tasksPerOwner: 2_000,
  idleAgents: 30,
  idleSeconds: 60,
};

export const QUICK: Scale = {
  rounds: 2,
  submissions: 2,
  callsPerClient: 4,
  latencyCalls: 30,
  payloadBytes: [1_000, 1_000_000, 8_000_000],
  backlogTasks: 10_000,
  drainTasks: 3_000,
  tasksPerOwner: 100,
  idleAgents: 4,
  idleSeconds: 10,
};

export interface PartContext {
  system: MeasuredSystem;
  scale: Scale;
  /** Progress, shown while the part runs. */
  say(line: string): void;
}

export type Part = (context: PartContext) => Promise<Measure[]>;
