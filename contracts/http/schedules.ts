import { z } from 'zod';

import { OVERLAP_POLICIES } from '../../contracts/schedules';
import { uuidSchema } from './v1';

/** `/v1/schedules`: runs of a flow, or calls of a function, at given times. */

const target = z.union([
  z.object({ flow: uuidSchema, input: z.record(z.string(), z.unknown()).default({}) }),
  z.object({
    function: uuidSchema,
    endpoint: uuidSchema,
    args: z.array(z.unknown()).default([]),
    kwargs: z.record(z.string(), z.unknown()).default({}),
  }),
]);

export const createScheduleSchema = z
  .object({
    name: z.string().min(1).max(128),
    target,
    /** Expressions with five fields, as in crontab. The schedule is due at the times of all of them. */
    cron: z.array(z.string().min(1).max(200)).max(20).default([]),
    /** Seconds between two times; the times are counted from the start of 1970. */
    every_s: z.number().int().min(1).optional(),
    /** The time zone of `cron`: a name of the IANA time zone database. */
    time_zone: z.string().min(1).max(100).default('UTC'),
    overlap: z.enum(OVERLAP_POLICIES).default('skip'),
    /** Seconds. A time that was missed while the service was down is made up for, unless it is older. */
    catch_up_s: z.number().int().min(10).max(31_536_000).default(86_400),
    paused: z.boolean().default(false),
  })
  .refine(({ cron, every_s }) => cron.length > 0 || every_s !== undefined, 'give "cron" or "every_s"');
export type CreateSchedule = z.output<typeof createScheduleSchema>;

export const scheduleSchema = z.object({
  schedule_id: z.string(),
  name: z.string(),
  flow_id: z.string(),
  flow_title: z.string(),
  cron: z.array(z.string()),
  every_s: z.number().nullable(),
  time_zone: z.string(),
  overlap: z.string(),
  paused: z.boolean(),
  /** The note of the last pause or resume, by the owner or by the service. */
  note: z.string().nullable(),
  next_times: z.array(z.string()),
  created_at: z.string(),
});
export type ScheduleDocument = z.infer<typeof scheduleSchema>;
export const scheduleListSchema = z.object({ schedules: z.array(scheduleSchema) });
export const pauseScheduleSchema = z.object({ paused: z.boolean(), note: z.string().max(500).default('') });
export const backfillSchema = z.object({ from: z.iso.datetime({ offset: true }), to: z.iso.datetime({ offset: true }) });
export const doneSchema = z.object({ schedule_id: z.string() });
export const scheduleTimesSchema = z.object({ times: z.array(z.string()) });
