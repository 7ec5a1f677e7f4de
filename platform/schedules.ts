import { ScheduleAlreadyRunning, ScheduleNotFoundError, type ScheduleDescription } from '@temporalio/client';
import { google } from '@temporalio/proto';

import { TerminalError } from '../contracts/errors';
import type { CreateSchedule } from '../contracts/http/schedules';
import { SCHEDULE_WORKFLOW, temporalScheduleId, type OverlapPolicy, type ScheduleInput } from '../contracts/schedules';
import { limitSummary } from '../contracts/temporal-limits';
import type { Config } from './config';
import type { Temporal } from './temporal';

/** Wraps Temporal Schedules, which decide when schedules are due, in one small interface. */

export type ScheduleSpec = Pick<CreateSchedule, 'cron' | 'every_s' | 'time_zone' | 'overlap' | 'catch_up_s' | 'paused'>;

export interface ScheduleState {
  cron: string[];
  everyS: number | null;
  timeZone: string;
  overlap: string;
  paused: boolean;
  note: string | null;
  nextTimes: Date[];
}

export interface Schedules {
  /** Does nothing if the schedule exists. Throws INVALID_REQUEST when the server refuses the times. */
  create(id: string, name: string, spec: ScheduleSpec): Promise<void>;
  read(id: string): Promise<ScheduleState | undefined>;
  pause(id: string, paused: boolean, note: string): Promise<void>;
  trigger(id: string): Promise<void>;
  backfill(id: string, from: Date, to: Date): Promise<void>;
  /** The times at which the schedule is due, whether it is paused or not. */
  times(id: string, from: Date, to: Date): Promise<Date[]>;
  delete(id: string): Promise<void>;
}

const OVERLAP = {
  skip: 'SKIP',
  buffer_one: 'BUFFER_ONE',
  buffer_all: 'BUFFER_ALL',
  cancel_other: 'CANCEL_OTHER',
  terminate_other: 'TERMINATE_OTHER',
  allow_all: 'ALLOW_ALL',
} as const satisfies Record<OverlapPolicy, string>;

const INVALID_ARGUMENT = 3;
const NEXT_TIMES = 5;

export function createSchedules(temporal: Temporal, config: Config): Schedules {
  const { client } = temporal;
  const handleOf = (id: string) => client.schedule.getHandle(temporalScheduleId(id));

  return {
    async create(id, name, spec) {
      const input: ScheduleInput = { version: 1, scheduleId: id };
      try {
        await client.schedule.create({
          scheduleId: temporalScheduleId(id),
          spec: {
            cronExpressions: spec.cron,
            intervals: spec.every_s === undefined ? [] : [{ every: spec.every_s * 1_000 }],
            timezone: spec.time_zone,
          },
          action: {
            type: 'startWorkflow',
            workflowType: SCHEDULE_WORKFLOW,
            workflowId: temporalScheduleId(id),
            taskQueue: config.TEMPORAL_FLOWS_QUEUE,
            args: [input],
            staticSummary: limitSummary(`schedule ${name}`),
          },
          policies: { overlap: OVERLAP[spec.overlap], catchupWindow: spec.catch_up_s * 1_000 },
          state: { paused: spec.paused },
          // The requested times, because the server rewrites cron expressions into calendars.
          memo: { cron: spec.cron, everyS: spec.every_s ?? null },
        });
      } catch (error) {
        if (!(error instanceof ScheduleAlreadyRunning)) throw translated(error);
      }
    },

    async read(id) {
      try {
        return stateOf(await handleOf(id).describe());
      } catch (error) {
        if (error instanceof ScheduleNotFoundError) return undefined;
        throw error;
      }
    },

    async pause(id, paused, note) {
      if (paused) await handleOf(id).pause(note || 'paused by its owner');
      else await handleOf(id).unpause(note || 'resumed by its owner');
    },

    async trigger(id) {
      await handleOf(id).trigger();
    },

    async backfill(id, from, to) {
      await handleOf(id).backfill({ start: from, end: to, overlap: 'BUFFER_ALL' });
    },

    async times(id, from, to) {
      const { startTime } = await temporal.connection.workflowService.listScheduleMatchingTimes({
        namespace: config.TEMPORAL_NAMESPACE,
        scheduleId: temporalScheduleId(id),
        startTime: timestampOf(from),
        endTime: timestampOf(to),
      });
      return startTime.map(({ seconds, nanos }) => new Date(Number(seconds ?? 0) * 1_000 + (nanos ?? 0) / 1_000_000));
    },

    async delete(id) {
      try {
        await handleOf(id).delete();
      } catch (error) {
        if (!(error instanceof ScheduleNotFoundError)) throw error;
      }
    },
  };
}

const timestampOf = (time: Date): google.protobuf.Timestamp =>
  google.protobuf.Timestamp.fromObject({ seconds: Math.floor(time.getTime() / 1_000) });

function stateOf({ spec, policies, state, info, memo }: ScheduleDescription): ScheduleState {
  const { cron = [], everyS = null } = (memo ?? {}) as { cron?: string[]; everyS?: number | null };
  const name = Object.entries(OVERLAP).find(([, word]) => word === String(policies.overlap))?.[0];
  return {
    cron,
    everyS,
    timeZone: spec.timezone ?? 'UTC',
    overlap: name ?? String(policies.overlap),
    paused: state.paused,
    note: state.note ?? null,
    nextTimes: state.paused ? [] : info.nextActionTimes.slice(0, NEXT_TIMES),
  };
}

function translated(thrown: unknown): unknown {
  const error = thrown as { cause?: { code?: number; details?: string } };
  if (error.cause?.code !== INVALID_ARGUMENT) return thrown;
  const why = error.cause.details ?? String(thrown);
  return new TerminalError('INVALID_REQUEST', `these times cannot be scheduled: ${why}; check "cron" and "time_zone"`, {
    cause: thrown,
  });
}
