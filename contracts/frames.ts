import { z } from 'zod';

import { UUID_PATTERN } from './ids';

/**
 * AMQP message bodies and headers (`globus_compute_common/messagepack`, `funcx_common/messagepack`). A frame is one byte 0x01
 * followed by UTF-8 JSON `{"message_type", "data"}`. Commands are plain JSON without that byte. Parsing drops unknown keys:
 * foreign agents send more than the service reads.
 */

const FRAME_VERSION = 1;

const uuid = z.string().regex(UUID_PATTERN);

/** Body reference: where our agent downloads a body that is too large for the broker. */
export const bodyReferenceSchema = z.object({
  /** Path relative to the address of the API, such as `/v1/tasks/<id>/body`. */
  path: z.string(),
  /** Bearer token for this task and attempt only. */
  token: z.string(),
});
export type BodyReference = z.infer<typeof bodyReferenceSchema>;

export const taskDataSchema = z.object({
  task_id: uuid,
  /** Always null: stock agents require the field, and the service has no containers. */
  container_id: z.string().nullish(),
  /** Packed code, arguments and keyword arguments. Empty if only `claim` is present; without code if `code_hash` is present. */
  task_buffer: z.string(),
  /** The wire name of the body reference: to code, arguments and keyword arguments. */
  claim: bodyReferenceSchema.optional(),
  /** SHA-256 in hex of code that agents with this capability keep. An agent that lacks it fetches the body reference. */
  code_hash: z.string().optional(),
});
export type TaskData = z.infer<typeof taskDataSchema>;

/** Headers of a task message. Stock agents require the first two; headers that begin with `funcx-` are ours. */
export const taskHeadersSchema = z.object({
  function_uuid: z.string(),
  task_uuid: z.string(),
  /** JSON text; stock agents parse it. */
  resource_specification: z.string().optional(),
  result_serializers: z.array(z.string()).optional(),
  'funcx-attempt': z.number().int().min(1).default(1),
  'funcx-walltime-ms': z.number().positive().optional(),
  /** Whose task it is: `own` for the endpoint's owner, else an opaque key. Our agent has separate workers for each owner. */
  'funcx-owner': z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/)
    .optional(),
  /** Path to which our agent uploads a result that exceeds the inline limit. */
  'funcx-result-path': z.string().optional(),
  'funcx-result-token': z.string().optional(),
  traceparent: z.string().optional(),
});
export type TaskHeaders = z.infer<typeof taskHeadersSchema>;

export const errorDetailsSchema = z.object({
  code: z.string(),
  user_message: z.string().default(''),
});

export const resultDataSchema = z.object({
  task_id: uuid,
  /** One unpacked buffer, or the traceback of a failure. Empty if the result was uploaded (header `funcx-stored`). */
  data: z.string(),
  error_details: errorDetailsSchema.nullish(),
  details: z.record(z.string(), z.unknown()).nullish(),
  task_statuses: z.array(z.unknown()).nullish(),
});
export type ResultData = z.infer<typeof resultDataSchema>;

/** Headers that our agent adds to a result. Stock agents send none. */
export const resultHeadersSchema = z.object({
  'funcx-attempt': z.number().int().min(1).max(0x7fffffff).optional(),
  /** True if the agent uploaded the body over HTTP before it sent this message. */
  'funcx-stored': z.boolean().optional(),
  /** Exit code of a shell function that failed. */
  'funcx-exit-code': z.number().int().optional(),
  /** How many calls like the latest ones all slots of the agent together could run in a second. */
  'funcx-capacity': z.number().min(0).optional(),
  traceparent: z.string().optional(),
});

/** What our agent reports in `global_state`, in addition to the keys of stock agents. */
export const agentStateSchema = z.object({
  heartbeat_period: z.number().min(0),
  active: z.boolean().optional(),
  /** Why the endpoint could not start; shown to the user. */
  error: z.string().optional(),
  /** New with each start of the agent. */
  incarnation: z.string().optional(),
  total_workers: z.number().optional(),
  idle_workers: z.number().optional(),
  /** `<task id>/<attempt>` of every attempt at the agent: queued, running, or with an unconfirmed result. */
  held: z.array(z.string()).optional(),
  /** The attempts in `held` that a worker runs now. */
  running: z.array(z.string()).optional(),
  /** When the agent made the report; Unix milliseconds. */
  sent_ms: z.number().optional(),
});
export type AgentState = z.infer<typeof agentStateSchema>;

/** The incarnation that reports. Our agents name it; for stock user endpoints it is the process ID and start time. */
export function incarnationOf(state: (AgentState & Record<string, unknown>) | undefined): string | undefined {
  if (state?.incarnation !== undefined) return state.incarnation;
  const { posix_pid: pid, start_unix: start }: Record<string, unknown> = state ?? {};
  return typeof pid === 'number' && typeof start === 'number' ? `${pid}/${start}` : undefined;
}

/** Default heartbeat period of funcX agents 1.0.7 to 1.0.13, which report a period (0) only in their last report. */
const DEFAULT_HEARTBEAT_PERIOD_S = 30;

export const statusDataSchema = z.object({
  endpoint_id: uuid,
  global_state: agentStateSchema
    .extend({ heartbeat_period: z.number().min(0).default(DEFAULT_HEARTBEAT_PERIOD_S) })
    .loose()
    .optional(),
  ep_status_report: z.record(z.string(), z.unknown()).optional(),
  task_statuses: z.unknown().optional(),
});
export type StatusData = z.infer<typeof statusDataSchema>;

/** Report of funcX agents up to about 1.0.6; later releases send the same counters in `global_state`. */
const reportSchema = z.object({ info: agentStateSchema.loose() });

/** The state that an agent of any release reports; undefined if the report has no field that the service reads. */
export function agentStateOf(status: StatusData): (AgentState & Record<string, unknown>) | undefined {
  if (status.global_state) return status.global_state;
  const parsed = reportSchema.safeParse(status.ep_status_report);
  return parsed.success ? parsed.data.info : undefined;
}

/**
 * True if an agent that does not list its attempts reports that it has none. False means unknown, not busy: the agent lists
 * its attempts in `held`, or reports no counters.
 */
export function isIdleReport(state: AgentState & Record<string, unknown>): boolean {
  // Globus Compute 4 engines report an engine_type. Their counters lag behind their results, so they prove nothing.
  if (state.held !== undefined || 'engine_type' in state || typeof state.pending_tasks !== 'number') return false;
  const outstanding = state.outstanding_tasks;
  const counts: unknown[] = typeof outstanding === 'object' && outstanding !== null ? Object.values(outstanding) : [outstanding];
  return state.pending_tasks === 0 && counts.every((count) => count === 0);
}

const frameSchema = z.discriminatedUnion('message_type', [
  z.object({ message_type: z.literal('task'), data: taskDataSchema }),
  z.object({ message_type: z.literal('result'), data: resultDataSchema }),
  z.object({ message_type: z.literal('ep_status_report'), data: statusDataSchema }),
]);
export type Frame = z.infer<typeof frameSchema>;

/** Commands to our agents, sent over the command queue of the endpoint. */
export const commandSchema = z.discriminatedUnion('command', [
  /** Stop these attempts, queued or running: SIGTERM, then SIGKILL. `tasks` has the format of `held`. */
  z.object({ command: z.literal('cancel'), tasks: z.array(z.string()) }),
  /** Take no more tasks, finish the running ones, exit with 0. */
  z.object({ command: z.literal('drain') }),
  /** Stop and show the reason: another agent took over the endpoint, or the endpoint was deleted or locked. */
  z.object({
    command: z.literal('stop'),
    reason: z.string(),
    /** The incarnation to stop; another incarnation that reads the same queue ignores the command. Absent: any. */
    incarnation: z.string().optional(),
  }),
]);
export type Command = z.infer<typeof commandSchema>;

const LARGE_FRAME_BYTES = 1_000_000;
/** Honest frames are large because of their texts; millions of values would block the event loop for seconds. */
const MAX_VALUES = 200_000;

/** Counts, without parsing, the characters outside texts that open or separate values. True for more than MAX_VALUES. */
function hasManyValues(json: Uint8Array): boolean {
  let count = 0;
  let isText = false;
  for (let at = 1; at < json.length; at++) {
    const byte = json[at];
    if (isText) {
      if (byte === 0x5c /* backslash */) at++;
      else if (byte === 0x22 /* quote */) isText = false;
    } else if (byte === 0x22) isText = true;
    else if (byte === 0x2c /* comma */ || byte === 0x5b /* [ */ || byte === 0x7b /* { */) {
      if (++count > MAX_VALUES) return true;
    }
  }
  return false;
}

export function encodeFrame(frame: Frame): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(frame));
  const bytes = new Uint8Array(json.length + 1);
  bytes[0] = FRAME_VERSION;
  bytes.set(json, 1);
  return bytes;
}

/** Parses a frame; throws a `SyntaxError` that says what is wrong. */
export function decodeFrame(bytes: Uint8Array): Frame {
  if (bytes[0] !== FRAME_VERSION) throw new SyntaxError(`unknown frame version ${bytes[0] ?? 'none'}`);
  if (bytes.length > LARGE_FRAME_BYTES && hasManyValues(bytes)) {
    throw new SyntaxError(`a frame of ${bytes.length} bytes with more than ${MAX_VALUES} values`);
  }
  const json: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(1)));
  const parsed = frameSchema.safeParse(json);
  if (!parsed.success) throw new SyntaxError(`malformed frame: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

/** An agent that sends no heartbeat for this many periods counts as offline. */
export const MISSED_HEARTBEAT_PERIODS = 2.5;

/** The name of an attempt in heartbeats and commands. */
export const attemptName = (taskId: string, attempt: number): string => `${taskId}/${attempt}`;
