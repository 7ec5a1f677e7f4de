import { z } from 'zod';

/**
 * AMQP message bodies and headers (protocol/globus-compute-4, sections 7 and 9; protocol/funcx-1.0, section 10).
 * A frame is one byte 0x01, then UTF-8 JSON `{"message_type", "data"}`. Commands are plain JSON without the byte.
 * Unknown keys are kept out, not refused: foreign agents send more than we read.
 */

const FRAME_VERSION = 1;

const uuid = z.string().regex(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/);

/** Where our agent fetches or leaves a body that is too large for the broker. */
export const claimSchema = z.object({
  /** Path below the service's address, such as `/v1/tasks/<id>/body`. */
  path: z.string(),
  /** Bearer token that is good for this task and attempt only. */
  token: z.string(),
});
export type Claim = z.infer<typeof claimSchema>;

export const taskDataSchema = z.object({
  task_id: uuid,
  /** Null for stock agents' sake; we have no containers. */
  container_id: z.string().nullish(),
  /** Packed code, arguments, keyword arguments. Empty when `claim` is there. */
  task_buffer: z.string(),
  claim: claimSchema.optional(),
});
export type TaskData = z.infer<typeof taskDataSchema>;

/** Headers of a task message. The first two are required by stock agents; those that begin with `funcx-` are ours. */
export const taskHeadersSchema = z.object({
  function_uuid: z.string(),
  task_uuid: z.string(),
  /** JSON text, as stock agents want it. */
  resource_specification: z.string().optional(),
  result_serializers: z.array(z.string()).optional(),
  'funcx-attempt': z.number().int().min(1).default(1),
  'funcx-walltime-ms': z.number().positive().optional(),
  /** Where our agent may PUT a result that is over the inline limit. */
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
  /** One unpacked buffer, or the traceback text of a failure. Empty when `stored` is there. */
  data: z.string(),
  error_details: errorDetailsSchema.nullish(),
  details: z.record(z.string(), z.unknown()).nullish(),
  task_statuses: z.array(z.unknown()).nullish(),
});
export type ResultData = z.infer<typeof resultDataSchema>;

/** Headers that our agent adds to a result. Stock agents send none. */
export const resultHeadersSchema = z.object({
  'funcx-attempt': z.number().int().min(1).max(0x7fffffff).optional(),
  /** True when the body was left over HTTP before this message was sent. */
  'funcx-stored': z.boolean().optional(),
  /** Exit code of a shell function that failed. */
  'funcx-exit-code': z.number().int().optional(),
  traceparent: z.string().optional(),
});

/** What our agent says of itself in `global_state`, beside the keys of stock agents. */
export const agentStateSchema = z.object({
  heartbeat_period: z.number().min(0),
  active: z.boolean().optional(),
  /** A text for the user: the endpoint could not start. */
  error: z.string().optional(),
  /** New with each start of the agent. */
  incarnation: z.string().optional(),
  total_workers: z.number().optional(),
  idle_workers: z.number().optional(),
  /** `<task id>/<attempt>` of everything the agent holds: queued at the agent, running, or not yet confirmed. */
  held: z.array(z.string()).optional(),
  /** The part of `held` that a worker runs. */
  running: z.array(z.string()).optional(),
  /** Unix milliseconds at which the report was made. */
  sent_ms: z.number().optional(),
});
export type AgentState = z.infer<typeof agentStateSchema>;

/** Which process reports: our agents say so, for a user endpoint of a stock one its pid and start tell. */
export function incarnationOf(state: (AgentState & Record<string, unknown>) | undefined): string | undefined {
  if (state?.incarnation !== undefined) return state.incarnation;
  const { posix_pid: pid, start_unix: start }: Record<string, unknown> = state ?? {};
  return typeof pid === 'number' && typeof start === 'number' ? `${pid}/${start}` : undefined;
}

/** Agents of funcX 1.0.7 to 1.0.13 do not say how often they report, unless it is the last time (0). Their default. */
const UNSAID_PERIOD_S = 30;

export const statusDataSchema = z.object({
  endpoint_id: uuid,
  global_state: agentStateSchema
    .extend({ heartbeat_period: z.number().min(0).default(UNSAID_PERIOD_S) })
    .loose()
    .optional(),
  ep_status_report: z.record(z.string(), z.unknown()).optional(),
  task_statuses: z.unknown().optional(),
});
export type StatusData = z.infer<typeof statusDataSchema>;

/** How agents of funcX 1.0 up to 1.0.6 or so report; later ones have the same counters in `global_state`. */
const reportSchema = z.object({ info: agentStateSchema.loose() });

/** What an agent says of itself, whichever release it is; undefined where it says nothing that we read. */
export function agentStateOf(status: StatusData): (AgentState & Record<string, unknown>) | undefined {
  if (status.global_state) return status.global_state;
  const parsed = reportSchema.safeParse(status.ep_status_report);
  return parsed.success ? parsed.data.info : undefined;
}

/**
 * True when an agent that does not name the attempts it holds says that it holds none. False when it does name them, or
 * says nothing: then nothing follows.
 */
export function isIdleReport(state: AgentState & Record<string, unknown>): boolean {
  // An engine of Globus Compute 4 reports an engine_type; what it counts may lag behind its results.
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

/** What the service tells an agent of ours over its command queue. */
export const commandSchema = z.discriminatedUnion('command', [
  /** Stop these attempts, running or not: term, then kill. `tasks` as in `held`. */
  z.object({ command: z.literal('cancel'), tasks: z.array(z.string()) }),
  /** Take no more tasks, finish what runs, exit 0. */
  z.object({ command: z.literal('drain') }),
  /** Another agent registered with this id, or the endpoint was deleted or locked: stop, and tell the user why. */
  z.object({
    command: z.literal('stop'),
    reason: z.string(),
    /** Whom it is meant for; an agent of another incarnation, which reads the same queue, ignores it. Absent: any. */
    incarnation: z.string().optional(),
  }),
]);
export type Command = z.infer<typeof commandSchema>;

export function encodeFrame(frame: Frame): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(frame));
  const bytes = new Uint8Array(json.length + 1);
  bytes[0] = FRAME_VERSION;
  bytes.set(json, 1);
  return bytes;
}

/** Parses a frame; throws an error that says what is wrong with it. */
export function decodeFrame(bytes: Uint8Array): Frame {
  if (bytes[0] !== FRAME_VERSION) throw new SyntaxError(`unknown frame version ${bytes[0] ?? 'none'}`);
  const json: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(1)));
  const parsed = frameSchema.safeParse(json);
  if (!parsed.success) throw new SyntaxError(`malformed frame: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

/** An agent that sends no heartbeat for this many periods counts as offline. */
export const MISSED_HEARTBEAT_PERIODS = 2.5;

/** How an attempt is named in heartbeats and commands. */
export const attemptName = (taskId: string, attempt: number): string => `${taskId}/${attempt}`;
