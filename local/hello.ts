import { registerPython, submitCall, waitForTask } from '../cli/call-function';
import { ApiClient } from '../cli/http';

import { readJson } from './files';
import { UserError } from './user-error';

import type { SystemState } from './state';

const WAIT_MS = 60_000;
const HELLO = { name: 'hello', source: 'def hello():\n    import platform\n    return "Hello from " + platform.node()\n' };

/** Runs a real function on the local endpoint through every part; the time is from the submission to its value. */
export async function sayHello(state: SystemState, stopping: AbortSignal): Promise<NonNullable<SystemState['hello']>> {
  const identity = readJson(state.identity_file) as { client_id: string; client_secret: string };
  const apiUrl = `http://127.0.0.1:${state.ports.api}`;
  const api = new ApiClient({ apiUrl, clientId: identity.client_id, clientSecret: identity.client_secret });
  const endpointId = state.endpoint?.id;
  if (endpointId === undefined || endpointId === null)
    throw new UserError('The local endpoint is connected but has written no id.');
  const deadline = AbortSignal.timeout(WAIT_MS);
  const signal = AbortSignal.any([stopping, deadline]);
  try {
    const functionId = await registerPython(api, HELLO, signal);
    const started = performance.now();
    const taskId = await submitCall(api, { endpointId, functionId, args: [], kwargs: {} }, signal);
    const outcome = await waitForTask(api, taskId, signal);
    if (outcome.exception !== undefined) throw new UserError(`The hello function (task ${taskId}) failed:\n${outcome.exception}`);
    return { value: String(outcome.value), task_id: taskId, ms: Math.round(performance.now() - started) };
  } catch (error) {
    if (!deadline.aborted || stopping.aborted) throw error;
    throw new UserError(`The hello function had no answer after ${WAIT_MS / 1000} s; see the logs in ${state.logs_dir}.`);
  }
}
