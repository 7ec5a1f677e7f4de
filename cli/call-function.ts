import { JSON_RESULT_SERIALIZER, BUFFER, packJsonArguments, splitBuffer } from '../contracts/packing';
import { UserError } from '../local/user-error';

import type { ApiClient } from './http';

const LONG_POLL_S = 20;
const RETRY_MS = 500;

export interface PythonFunction {
  name: string;
  /** The text of this function alone. */
  source: string;
}

export interface Outcome {
  taskId: string;
  /** Set when the function returned. */
  value?: unknown;
  /** Set when it failed: the remote traceback or a sentence. */
  exception?: string;
}

/** Registers Python source; returns the function's id. */
export async function registerPython(api: ApiClient, { name, source }: PythonFunction, signal?: AbortSignal): Promise<string> {
  const body = { function_name: name, function_code: source, serialized: false, meta: {} };
  return ((await api.post('/v3/functions', body, signal)) as { function_uuid: string }).function_uuid;
}

/** Submits one call with plain JSON arguments; returns the task's id. */
export async function submitCall(
  api: ApiClient,
  call: { endpointId: string; functionId: string; args: unknown[]; kwargs: Record<string, unknown> },
  signal?: AbortSignal,
): Promise<string> {
  const body = {
    create_queue: false,
    tasks: { [call.functionId]: [packJsonArguments(call.args, call.kwargs)] },
    result_serializers: [JSON_RESULT_SERIALIZER],
    user_runtime: {},
  };
  const answer = (await api.post(`/v3/endpoints/${call.endpointId}/submit`, body, signal)) as { tasks: Record<string, string[]> };
  const taskId = answer.tasks[call.functionId]?.[0];
  if (taskId === undefined) throw new UserError('The service accepted the call without naming its task.');
  return taskId;
}

interface TaskDocument {
  task_id: string;
  status: string;
  result?: string | null;
  exception?: string | null;
}

/** Waits until the task has its answer; aborting the signal ends the waiting, not the task. */
export async function waitForTask(api: ApiClient, taskId: string, signal?: AbortSignal): Promise<Outcome> {
  for (;;) {
    signal?.throwIfAborted();
    const asked = Date.now();
    const task = (await api.get(`/v1/tasks/${taskId}?wait_s=${LONG_POLL_S}`, signal)) as TaskDocument;
    const outcome = outcomeOf(taskId, task);
    if (outcome !== undefined) return outcome;
    // A service that does not hold the request must not be asked in a loop without a pause.
    if (Date.now() - asked < RETRY_MS) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

function outcomeOf(taskId: string, task: TaskDocument): Outcome | undefined {
  if (typeof task.exception === 'string') return { taskId, exception: task.exception };
  if (typeof task.result !== 'string') {
    return task.status === 'failed' ? { taskId, exception: 'The task failed without saying why.' } : undefined;
  }
  const { identifier, body } = splitBuffer(task.result);
  if (identifier === BUFFER.json) return { taskId, value: JSON.parse(body) as unknown };
  throw new UserError(`The result of task ${taskId} is not JSON; only a Python client can read it.`);
}

/** The id of an endpoint given by name or id. */
export async function findEndpoint(api: ApiClient, nameOrId: string, signal?: AbortSignal): Promise<string> {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(nameOrId)) return nameOrId.toLowerCase();
  const endpoints = (await api.get('/v2/endpoints', signal)) as { uuid: string; name: string }[];
  const found = endpoints.filter(({ name }) => name === nameOrId);
  if (found.length === 1 && found[0] !== undefined) return found[0].uuid;
  if (found.length > 1)
    throw new UserError(
      `${found.length} endpoints are named "${nameOrId}"; give the id: ${found.map(({ uuid }) => uuid).join(', ')}.`,
    );
  const known = endpoints.map(({ name }) => name).join(', ');
  throw new UserError(`You have no endpoint named "${nameOrId}"${known === '' ? '' : `; there are: ${known}`}.`);
}
