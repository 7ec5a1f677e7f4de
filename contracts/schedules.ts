import type { FlowRunInput } from './flows';

/** What the API, the workflow of a schedule and the store agree on. Workflows use this file. */

export const SCHEDULE_WORKFLOW = 'flowSchedule';

const SCHEDULE_PREFIX = 'flow-schedule/';
/** Of the Temporal schedule; the server appends the time of the occurrence for the workflow. */
export const temporalScheduleId = (scheduleId: string): string => SCHEDULE_PREFIX + scheduleId;

export interface ScheduleInput {
  version: 1;
  scheduleId: string;
}

/** The run of one time of a schedule, and whether the server takes our search attributes. */
export interface ScheduleRun extends FlowRunInput {
  hasSearchAttributes: boolean;
}

/** Makes the run of one time of a schedule, or pauses a schedule that may start nothing any more. */
export interface ScheduleActivities {
  /** The same run for the same occurrence; undefined when nothing is to be started. */
  beginScheduledRun(input: { scheduleId: string; occurrence: string }): Promise<ScheduleRun | undefined>;
}

/** What happens when a run is due while the one before goes on. */
export const OVERLAP_POLICIES = ['skip', 'buffer_one', 'buffer_all', 'cancel_other', 'terminate_other', 'allow_all'] as const;
export type OverlapPolicy = (typeof OVERLAP_POLICIES)[number];
