import type { FlowRunInput } from './flows';

/** What the API, the workflow of a schedule and the store share. Workflows use this file. */

export const SCHEDULE_WORKFLOW = 'flowSchedule';

const SCHEDULE_PREFIX = 'flow-schedule/';
/** The ID of the Temporal schedule. The server appends the time of the occurrence to it for the ID of the workflow. */
export const temporalScheduleId = (scheduleId: string): string => SCHEDULE_PREFIX + scheduleId;

export interface ScheduleInput {
  version: 1;
  scheduleId: string;
}

export interface ScheduleRun extends FlowRunInput {
  hasSearchAttributes: boolean;
}

/** Creates the run for one occurrence of a schedule, or pauses a schedule that may no longer start anything. */
export interface ScheduleActivities {
  /** Returns the same run for the same occurrence; undefined if nothing may be started. */
  beginScheduledRun(input: { scheduleId: string; occurrence: string }): Promise<ScheduleRun | undefined>;
}

/** What happens when a run is due while the previous run has not ended. */
export const OVERLAP_POLICIES = ['skip', 'buffer_one', 'buffer_all', 'cancel_other', 'terminate_other', 'allow_all'] as const;
export type OverlapPolicy = (typeof OVERLAP_POLICIES)[number];
