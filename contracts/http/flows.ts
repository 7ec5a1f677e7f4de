import { z } from 'zod';

import { FLOW_RUN_STATUSES } from '../../contracts/flows'; // lint takes '../flows' for the room flows/
import { UUID_PATTERN } from '../ids';

/** The HTTP interface of Globus Flows, as its released clients speak it. */

export const IDENTITY_URN = 'urn:globus:auth:identity:';
export const GROUP_URN = 'urn:globus:groups:id:';
export const PUBLIC = 'public';
export const ALL_AUTHENTICATED = 'all_authenticated_users';

const principalPattern = new RegExp(`^urn:globus:(auth:identity|groups:id):${UUID_PATTERN.source.slice(1)}`);
const MAX_PRINCIPALS = 16;
const MAX_KEYWORDS_CHARS = 1_024;

const principalSchema = z
  .string()
  .transform((text) => text.trim().toLowerCase())
  .refine((text) => principalPattern.test(text), `must be ${IDENTITY_URN}<uuid> or ${GROUP_URN}<uuid>`);
const listOf = (item: z.ZodType<string, string>) =>
  z
    .array(item)
    .max(MAX_PRINCIPALS, `at most ${MAX_PRINCIPALS}; put people into a group`)
    .transform((list) => [...new Set(list)]);
const principals = listOf(principalSchema);
const principalsOr = (word: string) => listOf(z.union([z.literal(word), principalSchema]));

const keywords = z
  .array(z.string().min(1))
  .refine((list) => list.join('').length <= MAX_KEYWORDS_CHARS, `at most ${MAX_KEYWORDS_CHARS} characters together`);

const flowFields = {
  title: z.string().min(1).max(128),
  definition: z.record(z.string(), z.unknown()),
  input_schema: z.union([z.record(z.string(), z.unknown()), z.boolean()]),
  subtitle: z.string().max(128).nullable(),
  description: z.string().max(4_096).nullable(),
  keywords,
  flow_viewers: principalsOr(PUBLIC),
  flow_starters: principalsOr(ALL_AUTHENTICATED),
  flow_administrators: principals,
  run_managers: principals,
  run_monitors: principals,
  /** Stored and returned; subscriptions have no effect here. */
  subscription_id: z.string().max(100).nullable(),
  /** A policy would promise a protection that the service does not give. */
  authentication_policy_id: z.null('this service has no authentication policies; leave it out'),
};
const allOptional = z.object(flowFields).partial().shape;

/** `POST /flows` */
export const createFlowSchema = z.strictObject({
  ...allOptional,
  title: flowFields.title,
  definition: flowFields.definition,
  input_schema: flowFields.input_schema,
});

/** `PUT /flows/{id}`: absent fields keep their values. */
export const updateFlowSchema = z.strictObject({ ...allOptional, flow_owner: principalSchema.optional() });
export type UpdateFlow = z.output<typeof updateFlowSchema>;

export const validateFlowSchema = z.strictObject({ definition: z.unknown(), input_schema: z.unknown().optional() });
export const validatedFlowSchema = z.object({
  scopes: z.object({ User: z.array(z.string()) }),
  analysis: z.object({
    not_portable: z.array(z.object({ loc: z.array(z.union([z.string(), z.int()])), msg: z.string() })),
  }),
});

export const flowSchema = z.object({
  id: z.string(),
  title: z.string(),
  subtitle: z.string(),
  description: z.string(),
  keywords: z.array(z.string()),
  definition: z.record(z.string(), z.unknown()),
  input_schema: z.unknown(),
  /** A token with this scope starts the flow. */
  globus_auth_scope: z.string(),
  globus_auth_username: z.string(),
  flow_owner: z.string(),
  created_by: z.string(),
  flow_viewers: z.array(z.string()),
  flow_starters: z.array(z.string()),
  flow_administrators: z.array(z.string()),
  run_managers: z.array(z.string()),
  run_monitors: z.array(z.string()),
  visible_to: z.array(z.string()),
  runnable_by: z.array(z.string()),
  administered_by: z.array(z.string()),
  user_role: z.string(),
  subscription_id: z.string().nullable(),
  authentication_policy_id: z.null(),
  created_at: z.string(),
  updated_at: z.string(),
  api_version: z.literal('1.0'),
  synchronous: z.literal(false),
  log_supported: z.literal(true),
  types: z.array(z.literal('Action')),
  principal_urn: z.string(),
  action_url: z.string(),
  flow_url: z.string(),
});
export type FlowDocument = z.infer<typeof flowSchema>;
export const deletedFlowSchema = flowSchema.extend({ DELETED: z.literal(true), deleted_at: z.string() });

/** An empty value counts as absent: the CLI sends empty filters. */
const text = z
  .string()
  .optional()
  .transform((value) => (value === undefined || value.trim() === '' ? undefined : value.trim()));
const csv = text.transform((value) =>
  value
    ?.split(',')
    .map((one) => one.trim())
    .filter((one) => one !== ''),
);
/** The parameter may be repeated, and each value may be a list with commas. */
const orderby = z
  .union([z.string(), z.array(z.string())])
  .optional()
  .transform((value) =>
    (Array.isArray(value) ? value : [value ?? ''])
      .flatMap((one) => one.split(','))
      .map((one) => one.trim())
      .filter((one) => one !== ''),
  );
const perPage = (size: number, most: number) =>
  z.preprocess((value) => (value === '' ? undefined : value), z.coerce.number().int().min(1).max(most).default(size));
const flag = z
  .string()
  .optional()
  .transform((value) => /^(true|1|yes)$/i.test(value ?? ''));

export const flowListQuerySchema = z.object({
  filter_roles: csv,
  filter_role: csv,
  filter_fulltext: text,
  filter_title: text,
  filter_subtitle: text,
  filter_description: text,
  filter_keywords: text,
  filter_scope_string: text,
  orderby,
  marker: text,
  per_page: perPage(20, 100),
});
const page = { limit: z.int(), has_next_page: z.boolean(), marker: z.string().nullable() };
export const flowListSchema = z.object({ flows: z.array(flowSchema), ...page });

const tags = z
  .array(z.string().max(64))
  .max(10)
  .transform((list) => [...new Set(list.map((tag) => tag.trim().replace(/\s+/g, ' ')).filter((tag) => tag !== ''))]);
const label = z.string().min(1).max(64);

/** `POST /flows/{id}/run` and `/validate_run` */
export const startRunSchema = z.strictObject({
  body: z.record(z.string(), z.unknown()),
  label: label.nullable().optional(),
  tags: tags.nullable().optional(),
  run_managers: principals.nullable().optional(),
  run_monitors: principals.nullable().optional(),
  /** Accepted and ignored: the service sends no mail. */
  activity_notification_policy: z.unknown().optional(),
});
export type StartRun = z.output<typeof startRunSchema>;
export const validatedRunSchema = z.object({ message: z.literal('validation successful') });

export const updateRunSchema = z.strictObject({
  label: label.optional(),
  tags: tags.optional(),
  run_managers: principals.optional(),
  run_monitors: principals.optional(),
});

export const runSchema = z.object({
  run_id: z.string(),
  action_id: z.string(),
  flow_id: z.string(),
  flow_title: z.string(),
  flow_last_updated: z.string(),
  status: z.enum(FLOW_RUN_STATUSES),
  display_status: z.string(),
  start_time: z.string(),
  completion_time: z.string().nullable(),
  label: z.string(),
  tags: z.array(z.string()),
  run_owner: z.string(),
  created_by: z.string(),
  run_managers: z.array(z.string()),
  run_monitors: z.array(z.string()),
  manage_by: z.array(z.string()),
  monitor_by: z.array(z.string()),
  user_role: z.string(),
  details: z.record(z.string(), z.unknown()),
  flow_description: z.record(z.string(), z.unknown()).optional(),
});
export type RunDocument = z.infer<typeof runSchema>;

export const runQuerySchema = z.object({ include_flow_description: flag });
export const runListQuerySchema = z.object({
  filter_flow_id: csv,
  filter_roles: csv,
  filter_role: csv,
  filter_status: csv,
  filter_label: text,
  filter_flow_title: text,
  /** `FROM,TO` in ISO 8601. Either may be missing; TO is exclusive. */
  filter_start_time: text,
  filter_completion_time: text,
  orderby,
  marker: text,
  per_page: perPage(20, 100),
});
export const runListSchema = z.object({ runs: z.array(runSchema), ...page });

export const runLogQuerySchema = z.object({ limit: perPage(10, 1_000), reverse_order: flag, marker: text });
export const runLogSchema = z.object({
  entries: z.array(
    z.object({ time: z.string(), code: z.string(), description: z.string(), details: z.record(z.string(), z.unknown()) }),
  ),
  ...page,
});
export const runDefinitionSchema = z.object({
  flow_id: z.string(),
  definition: z.record(z.string(), z.unknown()),
  input_schema: z.unknown(),
});

/** Objects of kinds that the service does not have. */
export const registeredApisSchema = z.object({
  registered_apis: z.array(z.never()),
  limit: z.int(),
  has_next_page: z.literal(false),
});
export const webInputsSchema = z.object({ web_input_summaries: z.array(z.never()), marker: z.null() });
export const webInputResponseSchema = z.looseObject({});

export const flowsErrorSchema = z.object({
  error: z.object({
    code: z.string(),
    detail: z.union([
      z.string(),
      z.array(z.object({ loc: z.array(z.union([z.string(), z.int()])), msg: z.string(), type: z.string() })),
    ]),
    message: z.string().optional(),
  }),
  debug_id: z.string(),
});
export type FlowsErrorBody = z.infer<typeof flowsErrorSchema>;
