import { z } from 'zod';

import { uuidSchema } from './http/v1';
import { policySchema } from './policy';

/** Schemas for the input of calls by pipelines. The types are in `calls.ts`, because workflows cannot import zod. */

const common = {
  function: z.string().min(1).max(700),
  endpoint: z.string().min(1).max(300),
  kwargs: z.record(z.string(), z.unknown()).default({}),
  policy: policySchema.default({}),
  result: z.enum(['auto', 'reference']).default('auto'),
  offline: z.union([z.literal('wait'), z.strictObject({ fail_after_s: z.number().min(0) })]).default('wait'),
  progress: z.boolean().default(false),
};

export const MAX_CALLS_OF_MAP = 20_000;

const grouped = (count: number): string => count.toLocaleString('en');

/** Many languages send null for an optional field that is not set. */
const withoutNulls = (value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null))
    : value;

const policyOfCall = (value: unknown): unknown => {
  const policy = withoutNulls(value);
  if (typeof policy !== 'object' || policy === null || !('retries' in policy)) return policy;
  return { ...policy, retries: withoutNulls(policy.retries) };
};

const inputOf = <S extends z.ZodRawShape>(fields: S) =>
  z.preprocess(withoutNulls, z.strictObject({ ...common, policy: z.preprocess(policyOfCall, common.policy), ...fields }));

export const callInputSchema = inputOf({ args: z.array(z.unknown()).default([]) });
export const mapInputSchema = inputOf({
  args_list: z.array(z.array(z.unknown())).max(MAX_CALLS_OF_MAP, {
    error: ({ input }) =>
      `a map takes at most ${grouped(MAX_CALLS_OF_MAP)} lists of arguments and this one has ${grouped((input as unknown[]).length)}: ` +
      'split it into several maps',
  }),
  failure: z
    .union([z.enum(['fail_fast', 'collect_all']), z.strictObject({ tolerate_percent: z.number().min(0).max(100) })])
    .default('fail_fast'),
});

export const referenceSchema = z.object({ $funcx: z.literal('ref'), taskId: uuidSchema });

/** `PUT /v1/pipelines/{taskQueue}`: calls from workflows on this Temporal task queue act as the identity that registers it. */
export const registerPipelineSchema = z.object({
  namespace: z.string().min(1).max(255).default('default'),
  functions: z
    .array(
      z.object({
        name: z
          .string()
          .min(1)
          .max(300)
          .regex(/^[^@]+$/, 'must not contain @'),
        version: z
          .string()
          .min(1)
          .max(100)
          .regex(/^[^@]+$/, 'must not contain @'),
        source: z.string().min(1),
        language: z.enum(['python', 'javascript', 'shell']).default('python'),
      }),
    )
    .max(1_000)
    .default([]),
});

export const registeredPipelineSchema = z.object({
  task_queue: z.string(),
  namespace: z.string(),
  /** Name of the identity that the calls act as. */
  identity: z.string(),
  functions: z.array(z.object({ name: z.string(), version: z.string(), function_uuid: z.string() })),
});
