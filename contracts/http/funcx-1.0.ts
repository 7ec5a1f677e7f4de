import { z } from 'zod';

import { uuidSchema } from './v1';

/** Wire of funcX 1.0 clients (funcx 1.0.4: `funcx/sdk/`), where it differs from `http/globus`. Parsing drops unknown fields. */

/** `POST /v2/submit`. A task is `[function ID, endpoint ID, payload]`. */
export const submit1Schema = z.object({
  task_group_id: uuidSchema.nullish(),
  tasks: z.array(z.tuple([uuidSchema, uuidSchema, z.string()])).min(1),
  /** Sent since 1.0.4. Release 1.0.4 means the results socket; later releases mean an AMQP queue. */
  create_websocket_queue: z.boolean().nullish(),
});

/** The body of an error, and the entry of a refused task in the response to a submit. */
export const error1Schema = z.object({
  status: z.literal('Failed'),
  /** One of {@link ERROR_NUMBERS}. */
  code: z.int(),
  /** The constructor arguments of the client's exception class; the number of arguments must match. */
  error_args: z.array(z.string()),
  reason: z.string(),
  http_status_code: z.int(),
});
export type Error1 = z.infer<typeof error1Schema>;

/** Error numbers, from which the clients choose an exception class. */
export const ERROR_NUMBERS = {
  other: 0,
  unauthenticated: 1,
  functionNotFound: 3,
  endpointNotFound: 4,
  containerNotFound: 5,
  taskNotFound: 6,
  groupNotFound: 7,
  functionForbidden: 8,
  endpointForbidden: 9,
  functionNotPermitted: 10,
  malformed: 17,
  internal: 18,
  taskGroupNotFound: 20,
  taskGroupForbidden: 21,
} as const;

const accepted1Schema = z.object({ status: z.literal('Success'), task_uuid: z.string(), http_status_code: z.literal(200) });
export const submit1ResponseSchema = z.object({
  response: z.literal('batch'),
  task_group_id: z.string(),
  results: z.array(z.union([accepted1Schema, error1Schema.extend({ task_uuid: z.string() })])),
});
export type Submit1Response = z.infer<typeof submit1ResponseSchema>;

/** `POST /v2/endpoints`: an agent registers. */
export const register1Schema = z.object({
  endpoint_name: z.string().min(1).max(200),
  endpoint_uuid: uuidSchema,
  /** Sent by releases up to about 1.0.5. */
  version: z.string().max(100).nullish(),
  meta: z.record(z.string(), z.unknown()).nullish(),
  /** Sent by later releases. */
  metadata: z.record(z.string(), z.unknown()).nullish(),
});

export const registration1Schema = z.object({
  endpoint_id: z.string(),
  task_queue_info: z.object({ connection_url: z.string(), exchange: z.string(), queue: z.string() }),
  result_queue_info: z.object({
    connection_url: z.string(),
    exchange: z.string(),
    queue: z.string(),
    /** Keyword arguments of pika's `basic_publish`. */
    queue_publish_kwargs: z.object({
      exchange: z.string(),
      routing_key: z.string(),
      mandatory: z.boolean(),
      properties: z.object({ delivery_mode: z.literal(2) }),
    }),
  }),
});
export type Registration1 = z.infer<typeof registration1Schema>;

export const status1Schema = z.object({
  status: z.enum(['online', 'offline']),
  /** Newest first. Timestamps are Unix seconds. */
  logs: z.array(z.looseObject({ timestamp: z.number() })),
});

/** `POST /v2/containers`. */
export const container1Schema = z.object({ location: z.string(), type: z.string() });

export const allow1Schema = z.object({ func: z.array(uuidSchema).min(1).max(10_000) });

/** The text message for a finished task. It has either `result` or `exception`, never both. */
export const socketResultSchema = z.object({
  task_id: z.string(),
  status: z.enum(['success', 'failed']),
  result: z.string().optional(),
  exception: z.string().optional(),
  /** Unix seconds. */
  completion_t: z.string(),
});
export type SocketResult = z.infer<typeof socketResultSchema>;

/** Why the service closes the connection; the client cancels its futures. It recognizes this message by the missing task ID. */
export interface SocketFailure {
  exception: string;
}
