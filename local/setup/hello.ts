import { Client, FuncXError, python, TaskError } from '../../sdk/index';

import { readJson } from '../machine/files';
import { UserError } from '../machine/user-error';

import type { Credentials } from './agent-identity';
import type { SystemState } from './state';

const WAIT_MS = 60_000;
const HELLO = python<string>('def hello():\n    import platform\n    return "Hello from " + platform.node()\n');

/** Runs a real function on the local endpoint, through every part. The time is from submission to value. */
export async function sayHello(state: SystemState, stopping: AbortSignal): Promise<NonNullable<SystemState['hello']>> {
  const endpointId = state.endpoint?.id;
  if (endpointId === undefined || endpointId === null)
    throw new UserError('The local endpoint is connected but did not write its ID.');
  const client = createClient(state);
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
    throw new UserError(`The hello function did not return within ${WAIT_MS / 1000} s; see the logs in ${state.logs_dir}.`);
  } finally {
    client.close();
  }
}

export async function isPublic(state: SystemState, endpointId: string): Promise<boolean> {
  const client = createClient(state);
  try {
    return (await client.endpoint(endpointId)).public;
  } catch (error) {
    if (error instanceof FuncXError && error.code === 'ENDPOINT_NOT_FOUND') return false; // the agent has not registered it yet
    throw error;
  } finally {
    client.close();
  }
}

/** Creates a client with the administrator's identity. */
function createClient(state: SystemState): Client {
  const { client_id: clientId, client_secret: clientSecret } = readJson(state.identity_file) as Credentials;
  return new Client({ apiUrl: `http://127.0.0.1:${state.ports.api}`, clientId, clientSecret, ca: state.ca_file ?? undefined });
}
