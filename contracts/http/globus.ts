import { z } from 'zod';

import { policySchema } from '../policy';

import { uuidSchema } from './v1';

/** Wire of Globus Compute 4 clients (globus-sdk 4: `services/compute/`, `services/auth/`). Parsing drops unknown fields. */

/** `POST /v2/oauth2/token`, form encoded. */
export const tokenFormSchema = z.discriminatedUnion('grant_type', [
  z.object({
    grant_type: z.literal('client_credentials'),
    /** Separated by spaces; may repeat. Default: the compute service. */
    scope: z.string().max(10_000).default(''),
    client_id: z.string().max(200).optional(),
    client_secret: z.string().max(1_000).optional(),
  }),
  /** After an interactive login with PKCE. */
  z.object({
    grant_type: z.literal('authorization_code'),
    client_id: z.string().max(200),
    code: z.string().max(200),
    code_verifier: z.string().max(200),
    redirect_uri: z.string().max(2_000),
  }),
  z.object({ grant_type: z.literal('refresh_token'), refresh_token: z.string().max(200) }),
]);

const issuedTokenSchema = z.object({
  access_token: z.string(),
  scope: z.string(),
  expires_in: z.int(),
  token_type: z.literal('Bearer'),
  resource_server: z.string(),
  /** Present after an interactive login. */
  refresh_token: z.string().optional(),
});
export const tokenResponseSchema = issuedTokenSchema.extend({ other_tokens: z.array(issuedTokenSchema) });
export type TokenResponse = z.infer<typeof tokenResponseSchema>;

/** A client that logs out also revokes its refresh token, even if it has none; `token` is then empty. */
export const revokeFormSchema = z.object({ token: z.string().max(1_000).default(''), client_id: z.string().max(200).optional() });
export const revokeResponseSchema = z.object({ active: z.literal(false) });

export const identityQuerySchema = z.object({ ids: z.string().max(10_000).default('') });
const namedIdentity = { name: z.string(), username: z.string(), email: z.string() };
export const identitiesResponseSchema = z.object({ identities: z.array(z.object({ id: z.string(), ...namedIdentity })) });
export const userinfoResponseSchema = z.object({
  sub: z.string(),
  name: z.string(),
  preferred_username: z.string(),
  email: z.string(),
  identity_set: z.array(z.object({ sub: z.string(), ...namedIdentity }).loose()),
});

export const versionQuerySchema = z.object({ service: z.string().optional() });
export const versionResponseSchema = z.object({ api: z.string(), min_sdk_version: z.string(), min_ep_version: z.string() });

/** `POST /v3/functions` and `/v2/functions`. `language` and `policy` are extensions of this service. */
export const registerFunctionSchema = z.object({
  function_name: z.string().min(1).max(500),
  /** Packed code, or plain source when `serialized` is false. */
  function_code: z.string().min(1),
  serialized: z.boolean().default(true),
  language: z.enum(['python', 'javascript', 'shell']).default('python'),
  description: z.string().max(100_000).nullish(),
  public: z.boolean().nullish(),
  group: uuidSchema.nullish(),
  /** Sent by funcX 1.0. The service has no containers, so any value is refused. */
  container_uuid: z.string().max(100).nullish(),
  meta: z.record(z.string(), z.unknown()).nullish(),
  policy: policySchema.nullish(),
});

export const functionIdSchema = z.object({ function_uuid: z.string() });
export const functionDocumentSchema = z.object({
  function_uuid: z.string(),
  function_name: z.string(),
  function_code: z.string(),
  description: z.string().nullable(),
  public: z.boolean(),
  group: z.string().nullable(),
  owner_id: z.string(),
  metadata: z.record(z.string(), z.unknown()),
  policy: z.record(z.string(), z.unknown()),
  created_at: z.string(),
});
export const deletedSchema = z.object({ result: z.literal(302) });

export const endpointsQuerySchema = z.object({ role: z.enum(['owner', 'any']).default('owner') });
export const endpointDocumentSchema = z
  .object({
    uuid: z.string(),
    name: z.string(),
    display_name: z.string(),
    owner_id: z.string(),
    kind: z.string(),
    public: z.boolean(),
    group: z.string().nullable(),
    multi_user: z.boolean(),
    status: z.enum(['online', 'offline']),
  })
  .loose();
export const endpointStatusSchema = z.object({
  status: z.enum(['online', 'offline']),
  details: z.record(z.string(), z.unknown()),
});
export const endpointLockSchema = z.object({ endpoint_id: z.string(), lock_expiration_timestamp: z.string() });
export const allowedFunctionsSchema = z.object({
  endpoint_id: z.string(),
  restricted: z.boolean(),
  functions: z.array(z.string()),
});

/** `POST /v3/endpoints`, `PUT /v3/endpoints/{id}`: a stock core endpoint. */
export const registerCoreSchema = z.object({
  endpoint_name: z.string().min(1).max(200),
  public: z.boolean().default(false),
  high_assurance: z.boolean().nullish(),
  multi_user: z.boolean().nullish(),
  display_name: z.string().max(500).nullish(),
  allowed_functions: z.array(uuidSchema).max(10_000).nullish(),
  authentication_policy: z.string().nullish(),
  subscription_uuid: z.string().nullish(),
  admins: z.array(z.string()).nullish(),
  metadata: z.record(z.string(), z.unknown()).default({}),
});
const publishKwargsSchema = z.object({
  exchange: z.string(),
  routing_key: z.string(),
  mandatory: z.boolean(),
  properties: z.object({ delivery_mode: z.literal(2), user_id: z.string() }),
});
export const coreRegistrationSchema = z.object({
  endpoint_id: z.string(),
  command_queue_info: z.object({ connection_url: z.string(), queue: z.string() }),
  heartbeat_queue_info: z.object({
    connection_url: z.string(),
    exchange: z.string(),
    queue: z.string(),
    queue_publish_kwargs: publishKwargsSchema,
  }),
});
export type CoreRegistration = z.infer<typeof coreRegistrationSchema>;

/** `POST /v3/endpoints/{id}/submit`. */
export const submitSchema = z.object({
  create_queue: z.boolean().default(false),
  /** An extension of this service: the reader of the queue understands batches of results ({@link encodeBatch}). */
  result_batches: z.boolean().default(false),
  /** Payloads by function ID. */
  tasks: z
    .record(z.string(), z.array(z.string()).min(1))
    .refine((tasks) => Object.keys(tasks).length > 0, 'must have at least one task'),
  task_group_id: uuidSchema.nullish(),
  /** The key `funcx` is an extension of this service: {@link policySchema}. */
  resource_specification: z.record(z.string(), z.unknown()).nullish(),
  user_endpoint_config: z.record(z.string(), z.unknown()).nullish(),
  result_serializers: z.array(z.string().max(500)).max(50).nullish(),
  user_runtime: z.record(z.string(), z.unknown()).nullish(),
});
export const submitResponseSchema = z.object({
  request_id: z.string(),
  task_group_id: z.string(),
  endpoint_id: z.string(),
  tasks: z.record(z.string(), z.array(z.string())),
});
export type SubmitTable = z.output<typeof submitSchema>;
export type SubmitResponse = z.infer<typeof submitResponseSchema>;

/** `POST /v2/submit`. A task is `[function ID, endpoint ID, payload]`; one request may name several endpoints. */
const taskListSchema = z.object({
  tasks: z.array(z.tuple([uuidSchema, uuidSchema, z.string()])).min(1),
  task_group_id: uuidSchema.nullish(),
  create_queue: z.boolean().nullish(),
  create_websocket_queue: z.boolean().nullish(),
});
/** `POST /v2/submit` as Globus Compute 2.x sends it: like `/v3`, with the endpoint ID in the body. */
const taskTableSchema = submitSchema.extend({ endpoint_id: uuidSchema });
export const submitV2Schema = z.union([taskListSchema, taskTableSchema]);
export type TaskList = z.output<typeof taskListSchema>;
const submitListResponseSchema = z.object({
  response: z.literal('batch'),
  task_group_id: z.string(),
  results: z.array(z.object({ status: z.literal('Success'), task_uuid: z.string(), http_status_code: z.literal(200) })),
});

export type SubmitListResponse = z.infer<typeof submitListResponseSchema>;
export const submitV2ResponseSchema = z.union([submitListResponseSchema, submitResponseSchema]);

/** A finished task has either `result` or `exception`; an open task has neither. */
export const taskDocumentSchema = z.object({
  task_id: z.string(),
  status: z.string(),
  result: z.string().optional(),
  exception: z.string().optional(),
  /** Unix seconds. */
  completion_t: z.string().optional(),
  details: z.record(z.string(), z.unknown()).optional(),
});
export type TaskDocument = z.infer<typeof taskDocumentSchema>;

export const batchStatusSchema = z.object({ task_ids: z.array(uuidSchema).max(100_000) });
export const batchStatusResponseSchema = z.object({
  response: z.literal('batch'),
  results: z.record(z.string(), taskDocumentSchema),
});
/**
 * An extension of this service. The result queue that the caller will read. If the group has none of this kind, it gets one that
 * receives all later answers. Without the parameter, the caller is a stock client, which reads single answers.
 */
export const taskGroupQuerySchema = z.object({ queue: z.enum(['none', 'single', 'batches']).default('single') });
export const taskGroupSchema = z.object({ taskgroup_id: z.string(), tasks: z.array(z.object({ id: z.string() })) });

export const resultConnectionQuerySchema = z.object({
  /** `funcx` for our own client, which reads the certificate authority from `ca` instead of from the URL. */
  client: z.string().optional(),
});
export const resultConnectionSchema = z.object({
  queue_prefix: z.string(),
  connection_url: z.string(),
  ca: z.string().optional(),
  /** For our own client: the service can deliver results in batches. Earlier versions have no batch queues. */
  batch_queues: z.boolean().optional(),
});

/** The body of every error: `code` and `message` for the Globus clients, the other fields as in RFC 9457. */
export const errorBodySchema = z.object({
  code: z.string(),
  message: z.string(),
  request_id: z.string(),
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
});
export type ErrorBody = z.infer<typeof errorBodySchema>;
