import type { Quotas } from '../accepting/quotas';
import { TerminalError } from '../contracts/errors';
import type { ScheduleActivities } from '../contracts/schedules';
import { flowRoleOf, mayStart } from '../platform/flow-access';
import type { Logger } from '../platform/log';
import type { Schedules } from '../platform/schedules';
import type { Database } from '../platform/store/database';
import { findRun, insertRun } from '../platform/store/flow-runs';
import { findFlow } from '../platform/store/flows';
import { findIdentity } from '../platform/store/pipelines';
import { findSchedule } from '../platform/store/schedules';
import type { Temporal } from '../platform/temporal';
import { derivedId } from './derived-id';

/** Starts the run for one occurrence of a schedule. */

export interface ScheduleDeps {
  db: Database;
  schedules: Schedules;
  temporal: Pick<Temporal, 'hasSearchAttributes'>;
  quotas: Pick<Quotas, 'requireRoomForRun'>;
  log: Logger;
}

const MAX_LABEL_CHARS = 64;

export function createScheduleActivities({ db, schedules, temporal, quotas, log }: ScheduleDeps): ScheduleActivities {
  async function stop(scheduleId: string, why: string): Promise<undefined> {
    await schedules.pause(scheduleId, true, why);
    return undefined;
  }

  return {
    async beginScheduledRun({ scheduleId, occurrence }) {
      const schedule = await findSchedule(db, scheduleId);
      if (!schedule) {
        await schedules.delete(scheduleId);
        return undefined;
      }
      const owner = await findIdentity(db, schedule.ownerId);
      if (!owner) return stop(scheduleId, 'paused by the service: the identity of its owner was revoked');
      const flow = await findFlow(db, schedule.flowId);
      const role = flow && flowRoleOf(owner, flow);
      if (!flow) return stop(scheduleId, 'paused by the service: its flow was deleted');
      if (!role || !mayStart(role)) return stop(scheduleId, 'paused by the service: its owner may not start the flow any more');
      const runId = derivedId(occurrence);
      if (!(await findRun(db, runId))) {
        try {
          await quotas.requireRoomForRun(owner.id);
        } catch (error) {
          if (!(error instanceof TerminalError)) throw error;
          // As with an overlap: this time is skipped, and the schedule goes on.
          log.warn({ scheduleId, ownerId: owner.id, reason: error.message }, 'a run of a schedule was skipped');
          return undefined;
        }
        await insertRun(
          db,
          {
            id: runId,
            flowId: flow.id,
            flowVersion: flow.version,
            ownerId: owner.id,
            label: schedule.name.slice(0, MAX_LABEL_CHARS),
            tags: ['scheduled'],
            managers: [],
            monitors: [],
            input: schedule.input,
            shownInput: withoutPrivate(schedule.input),
          },
          undefined,
          { startsItself: true },
        );
      }
      const { hasSearchAttributes } = temporal;
      return { version: 1, runId, flowId: flow.id, title: flow.title, ownerId: owner.id, generation: 0, hasSearchAttributes };
    },
  };
}

const withoutPrivate = (input: unknown): unknown =>
  Object.fromEntries(Object.entries(input as Record<string, unknown>).filter(([key]) => !key.startsWith('_private')));
