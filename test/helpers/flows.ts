import { flowScope, FLOWS_SCOPE } from '../../contracts/scopes';
import { state, type Credentials, admin } from './system';
import { until } from './until';

/** Flows over HTTP, as their released clients use them, for tests of the language and its interpreter. */

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers of every shape
type Answer = any;

const tokens = new Map<string, Promise<string>>();

export async function tokenFor(scope: string, { client_id, client_secret }: Credentials): Promise<string> {
  const response = await fetch(`${state().api_url}/v2/oauth2/token`, {
    method: 'POST',
    headers: {
      authorization: `Basic ${Buffer.from(`${client_id}:${client_secret}`).toString('base64')}`,
      'content-type': 'application/x-www-form-urlencoded',
    },
    body: `grant_type=client_credentials&scope=${encodeURIComponent(scope)}`,
  });
  if (response.status !== 200) throw new Error(`no token: ${response.status} ${await response.text()}`);
  return ((await response.json()) as { access_token: string }).access_token;
}

export async function flowsCall(
  method: string,
  path: string,
  body?: unknown,
  scope = FLOWS_SCOPE,
): Promise<{ status: number; body: Answer }> {
  if (!tokens.has(scope)) tokens.set(scope, tokenFor(scope, admin()));
  const response = await fetch(state().api_url + path, {
    method,
    headers: {
      authorization: `Bearer ${await tokens.get(scope)!}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

async function ok(method: string, path: string, body?: unknown, scope?: string): Promise<Answer> {
  const reply = await flowsCall(method, path, body, scope);
  if (reply.status >= 300) throw new Error(`${method} ${path}: ${reply.status} ${JSON.stringify(reply.body)}`);
  return reply.body;
}

export async function makeFlow(title: string, definition: unknown): Promise<string> {
  return (await ok('POST', '/flows', { title, definition, input_schema: {} })).id as string;
}

export async function startRun(flowId: string, input: unknown): Promise<string> {
  return (await ok('POST', `/flows/${flowId}/run`, { body: input, label: 'test' }, flowScope(flowId))).run_id as string;
}

export const cancelRun = (runId: string): Promise<Answer> => ok('POST', `/runs/${runId}/cancel`);
export const resumeRun = (flowId: string, runId: string): Promise<Answer> =>
  ok('POST', `/runs/${runId}/resume`, undefined, flowScope(flowId));
export const readRun = (runId: string): Promise<Answer> => ok('GET', `/runs/${runId}`);

export async function endOfRun(runId: string, deadlineMs = 120_000, everyMs = 50): Promise<Answer> {
  return until(
    `run ${runId} ends`,
    async () => {
      const run = await readRun(runId);
      return ['SUCCEEDED', 'FAILED'].includes(run.status as string) ? (run as object) : undefined;
    },
    { deadlineMs, everyMs },
  );
}

export async function logOf(runId: string): Promise<Answer[]> {
  return (await ok('GET', `/runs/${runId}/log?limit=100`)).entries as Answer[];
}

/** A flow that is made, run and waited for. */
export async function runFlow(title: string, definition: unknown, input: unknown, deadlineMs?: number): Promise<Answer> {
  return endOfRun(await startRun(await makeFlow(title, definition), input), deadlineMs);
}

export const COMPUTE = 'https://compute.actions.globus.org/v3';

/** A Compute action of one task. */
export const action = (endpoint: string, fn: string, kwargs: object, more: object): object => ({
  Type: 'Action',
  ActionUrl: COMPUTE,
  Parameters: { endpoint_id: endpoint, tasks: [{ function_id: fn, kwargs }] },
  WaitTime: 120,
  ...more,
});
