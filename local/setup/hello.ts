import { Client, python, TaskError } from '../../sdk';

import { readJson } from '../machine/files';
import { UserError } from '../machine/user-error';

import type { SystemState } from './state';

const WAIT_MS = 60_000;
const HELLO = python<string>('def hello():\n    import platform\n    return "Hello from " + platform.node()\n');

/** Runs a real function on the local endpoint through every part; the time is from the submission to its value. */
export async function sayHello(state: SystemState, stopping: AbortSignal): Promise<NonNullable<SystemState['hello']>> {
  const identity = readJson(state.identity_file) as { client_id: string; client_secret: string };
  const apiUrl = `http://127.0.0.1:${state.ports.api}`;
  const endpointId = state.endpoint?.id;
  if (endpointId === undefined || endpointId === null)
    throw new UserError('The local endpoint is connected but has written no id.');
  const client = new Client({
    apiUrl,
    clientId: identity.client_id,
    clientSecret: identity.client_secret,
    ca: state.ca_file ?? undefined,
  });
  const deadline = AbortSignal.timeout(WAIT_MS);
  let taskId = '';
  try {
    const functionId = await client.registerFunction(HELLO);
    const started = performance.now();
    [taskId = ''] = (await client.submit(endpointId, [{ functionId }])).taskIds;
    const value = await client.result<string>(taskId, { signal: AbortSignal.any([stopping, deadline]) });
    return { value, task_id: taskId, ms: Math.round(performance.now() - started) };
  } catch (error) {
    if (error instanceof TaskError) throw new UserError(`The hello function (task ${taskId}) failed:\n${error.message}`);
    if (!deadline.aborted || stopping.aborted) throw error;
    throw new UserError(`The hello function had no answer after ${WAIT_MS / 1000} s; see the logs in ${state.logs_dir}.`);
  } finally {
    client.close();
  }
}
