import { z } from 'zod';

import { UUID_PATTERN } from '../ids';
import { SUBMISSION_STATES, TASK_STATES } from '../states';

/** Schemas of our own HTTP interface under `/v1`. `/openapi.json` is generated from them. */

export const uuidSchema = z
  .string()
  .transform((text) => text.toLowerCase())
  .pipe(z.string().regex(UUID_PATTERN, 'must be a UUID'));

/** `POST /v1/endpoints` and `PUT /v1/endpoints/{id}`. Our agent registers at every start. */
export const registerAgentSchema = z.object({
  name: z
    .string()
    .min(1)
    .max(128)
    .regex(/^[A-Za-z0-9._-]+$/, 'must consist of letters, digits, dots, underscores and dashes'),
  display_name: z.string().max(256).optional(),
  /** Access rules. A rule that the agent omits keeps its value; initially only the owner may submit, and any function. */
  public: z.boolean().optional(),
  group: uuidSchema.nullable().optional(),
  allowed_functions: z.array(uuidSchema).max(10_000).optional(),
  /** A new value for each start of the agent process. A process that registers again sends the same value. */
  incarnation: z.string().min(1).max(64),
  workers: z.int().min(1).max(4096),
  /** Take over from a running agent of this endpoint, which the service stops. If false: 409 CONFLICT. */
  replace: z.boolean().default(false),
  /** What the agent understands beyond single messages, such as `batches`. The service ignores names that it does not know. */
  capabilities: z.array(z.string().max(64)).max(64).default([]),
  metadata: z.record(z.string(), z.unknown()).default({}),
});
export type RegisterAgent = z.input<typeof registerAgentSchema>;

export const agentRegistrationSchema = z.object({
  endpoint_id: z.string(),
  broker: z.object({
    /** Contains new credentials, which give access only to the queues of this endpoint. */
    url: z.string(),
    /** PEM of the private certificate authority of the broker, if it has one. */
    ca: z.string().optional(),
  }),
  task_queue: z.string(),
  command_queue: z.string(),
  results: z.object({ exchange: z.string(), routing_key: z.string() }),
  status: z.object({ exchange: z.string(), routing_key: z.string() }),
  heartbeat_period_s: z.number(),
  /** The agent acknowledges an attempt that runs longer than this; from then on only heartbeats keep the attempt. */
  ack_within_ms: z.number(),
  /** The agent uploads results with more serialized characters over HTTP. Counts characters, despite its name. */
  inline_body_bytes: z.number(),
  /** The most serialized characters that a result may have. */
  max_body_chars: z.number().optional(),
  /** The same number, under the name that agents of earlier versions read. */
  max_body_bytes: z.number(),
  /** What the service understands beyond single messages; absent from services of earlier versions. */
  capabilities: z.array(z.string()).optional(),
});
export type AgentRegistration = z.infer<typeof agentRegistrationSchema>;

const timestamp = z.string();

export const functionsQuerySchema = z.object({
  name: z.string().optional(),
  /** Only functions without a policy of their own whose packed code has this SHA-256, in hexadecimal. */
  code_sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits')
    .optional(),
});
export const functionListSchema = z.object({
  functions: z.array(
    z.object({
      function_uuid: z.string(),
      function_name: z.string(),
      description: z.string().nullable(),
      public: z.boolean(),
      group: z.string().nullable(),
      created_at: timestamp,
      /** Present in responses to requests with `code_sha256`. */
      code_sha256: z.string().optional(),
    }),
  ),
});

/** `GET /v1/endpoints/{id}` */
export const endpointStateSchema = z.object({
  endpoint_id: z.string(),
  name: z.string(),
  kind: z.string(),
  public: z.boolean(),
  /** Only for the owner and administrators: the ID of the group whose members may submit; null without a group. */
  group_id: z.string().nullable().optional(),
  owner_id: z.string(),
  owner_name: z.string(),
  status: z.enum(['online', 'offline']),
  /** When the endpoint last went online or offline; null before its agent was first online. */
  since: timestamp.nullable(),
  last_heartbeat_at: timestamp.nullable(),
  /** Calls that its agents run at the same time. */
  workers: z.int(),
  /** Tasks of every identity that are in hand, and how many may be. */
  in_hand: z.int(),
  window: z.int(),
  /** Tasks of every identity that wait, counted up to 10,000 for each queue. */
  waiting: z.int(),
  waiting_since: timestamp.nullable(),
  /** Only for the owner and administrators: whose tasks wait, each as `name (tasks)`. */
  waiting_owners: z.array(z.string()),
  /** The page of its workflow in the Temporal UI. */
  temporal_url: z.string(),
});

/** Maximum seconds that the service waits for a change before it responds. */
const waitSchema = z.coerce.number().min(0).max(30).default(0);

const taskFacts = {
  function_name: z.string(),
  endpoint_name: z.string(),
  submitted_at: timestamp,
  /** When the latest attempt was dispatched. */
  dispatched_at: timestamp.nullable(),
  /** When the agent reported that the latest attempt runs; agents report it periodically, so short attempts have none. */
  started_at: timestamp.nullable(),
  answered_at: timestamp.nullable(),
  /** When the next attempt of a delayed task is due. */
  next_attempt_at: timestamp.nullable(),
  /** The last line of the failure after which the task was or will be retried. */
  last_error: z.string().nullable(),
};

export const taskQuerySchema = z.object({ wait_s: waitSchema });
export const taskStateSchema = z.object({
  task_id: z.string(),
  /** The status for Globus Compute clients. */
  status: z.string(),
  state: z.enum(TASK_STATES),
  attempt: z.int(),
  function_id: z.string(),
  endpoint_id: z.string(),
  task_group_id: z.string(),
  submission_id: z.string(),
  result: z.string().optional(),
  exception: z.string().optional(),
  /** For failed tasks: one of the task error codes. */
  error_code: z.string().optional(),
  completion_t: z.string().optional(),
  details: z.record(z.string(), z.unknown()).optional(),
  /** The machine that ran the task, and for how long, if the agent reports it. */
  host: z.string().optional(),
  ran_ms: z.number().optional(),
  ...taskFacts,
});
export type TaskStateDocument = z.infer<typeof taskStateSchema>;

/** `GET /v1/submissions/{id}/tasks` and `GET /v1/taskgroups/{id}/tasks`. */
export const tasksQuerySchema = z.object({
  /** One state, or several separated by commas. */
  state: z
    .string()
    .transform((text) => text.split(','))
    .pipe(z.array(z.enum(TASK_STATES)))
    .optional(),
  /** The `next` of the previous page. */
  after: uuidSchema.optional(),
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
});
const listedTaskSchema = z.object({
  task_id: z.string(),
  submission_id: z.string(),
  /** The place of the task in its submission, from 1. */
  index: z.int(),
  state: z.enum(TASK_STATES),
  attempt: z.int(),
  function_id: z.string(),
  endpoint_id: z.string(),
  ...taskFacts,
  /** For failed tasks: one of the task error codes. */
  error_code: z.string().optional(),
  /** The last line of the failure. Only the owner sees it. */
  error: z.string().optional(),
});
export type TaskSummary = z.infer<typeof listedTaskSchema>;
export const taskListSchema = z.object({
  tasks: z.array(listedTaskSchema),
  /** The cursor for the next page; null on the last page. */
  next: z.string().nullable(),
});

/** `POST /v1/submissions/{id}/retry` and `POST /v1/taskgroups/{id}/retry`. */
export const retrySchema = z.object({
  /** The end states of the tasks that are submitted again. */
  states: z
    .array(z.enum(['failed', 'expired', 'cancelled']))
    .min(1)
    .default(['failed', 'expired']),
});
export const retryResponseSchema = z.object({
  /** The group of the new submissions; null when no task is in one of the states. */
  task_group_id: z.string().nullable(),
  /** Number of tasks that were submitted again. */
  tasks: z.int(),
  submissions: z.array(z.string()),
});
export type RetryResponse = z.infer<typeof retryResponseSchema>;

/** The cursor `after` is the sequence number of the last result that the client has read; 0 for none. */
export const groupResultsQuerySchema = z.object({
  after: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
  wait_s: waitSchema,
});
export const groupResultSchema = z.object({
  seq: z.int(),
  task_id: z.string(),
  status: z.enum(['success', 'failed']),
  result: z.string().optional(),
  exception: z.string().optional(),
  error_code: z.string().optional(),
  completion_t: z.string(),
  details: z.record(z.string(), z.unknown()).optional(),
});
export type GroupResult = z.infer<typeof groupResultSchema>;
export const groupResultsSchema = z.object({
  results: z.array(groupResultSchema),
  /** The cursor for the next request. */
  next: z.int(),
});
/** Server-sent events: one event `result` for each {@link groupResultSchema}. The event ID is the cursor. */
export const groupEventsQuerySchema = z.object({ after: z.coerce.number().int().min(0).optional() });

export const cancelledSchema = z.object({
  /** Number of open tasks that are now cancelled, or will be in a moment. */
  cancelled: z.int(),
});

export const submissionSchema = z.object({
  submission_id: z.string(),
  endpoint_id: z.string(),
  endpoint_name: z.string(),
  task_group_id: z.string(),
  function_name: z.string(),
  state: z.enum(SUBMISSION_STATES),
  total: z.int(),
  open: z.int(),
  /** Tasks that ended without a value. */
  failed: z.int(),
  cancelled: z.int(),
  expired: z.int(),
  /** Number of tasks by state; states without tasks are omitted. */
  counts: z.record(z.string(), z.int()),
  policy: z.record(z.string(), z.unknown()),
  deadline: timestamp,
  created_at: timestamp,
  finished_at: timestamp.nullable(),
  owner_id: z.string(),
  owner_name: z.string(),
  workflow_id: z.string(),
  /** The page of the workflow in the Temporal UI. */
  temporal_url: z.string(),
});
const flagSchema = z
  .enum(['true', 'false'])
  .default('false')
  .transform((text) => text === 'true');
export const submissionsQuerySchema = z.object({
  endpoint: uuidSchema.optional(),
  group: uuidSchema.optional(),
  /** Only submissions with failed or expired tasks. */
  failed: flagSchema,
  /** Only submissions with open tasks. */
  open: flagSchema,
  /** For administrators: the submissions of every owner. */
  all: flagSchema,
  /** Only submissions whose ID starts with these characters. */
  prefix: z
    .string()
    .regex(/^[0-9a-fA-F-]{4,36}$/, 'must be the first 4 or more characters of an ID')
    .optional(),
  state: z.enum(SUBMISSION_STATES).optional(),
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
});
/** Newest first; without `counts`. */
export const submissionListSchema = z.object({ submissions: z.array(submissionSchema.omit({ counts: true })) });

export const uploadQuerySchema = z.object({ attempt: z.coerce.number().int().min(1) });
export const uploadedSchema = z.object({ stored: z.literal(true) });

export const healthSchema = z.object({ status: z.literal('ok') });
export const readinessSchema = z.object({
  ready: z.boolean(),
  engines: z.record(z.string(), z.object({ ok: z.boolean(), reason: z.string().optional() })),
});

const deadLetterSummarySchema = z.object({
  id: z.int(),
  /** The queue that the message came from. */
  queue: z.string(),
  routing_key: z.string().nullable(),
  reason: z.string(),
  /** Size of the body in bytes. */
  size: z.int(),
  created_at: timestamp,
});
export const deadLettersQuerySchema = z.object({
  /** Only dead letters with a smaller ID. */
  before: z.coerce.number().int().positive().optional(),
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
});
export const deadLetterListSchema = z.object({ dead_letters: z.array(deadLetterSummarySchema) });
export const deadLetterSchema = deadLetterSummarySchema.extend({
  headers: z.record(z.string(), z.unknown()),
  /** The first 4 KB of the body. */
  body_base64: z.string(),
});
export type DeadLetter = z.output<typeof deadLetterSchema>;
export const droppedDeadLetterSchema = z.object({ id: z.int(), dropped: z.literal(true) });
export const requeuedDeadLetterSchema = z.object({
  id: z.int(),
  queue: z.string(),
  requeued: z.literal(true),
  /** The former name of `requeued`; released command lines read it. */
  replayed: z.literal(true),
});

/** `POST /v1/codec/decode`: payloads as Temporal's tools send them, with bytes in base64. */
export const payloadListSchema = z.object({
  payloads: z
    .array(z.object({ metadata: z.record(z.string(), z.string()).default({}), data: z.string().default('') }))
    .max(10_000),
});
