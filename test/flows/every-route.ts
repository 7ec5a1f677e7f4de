import { join } from 'node:path';

import type { FlowsUser } from '../helpers/flow-clients';

/** Runs `scripts/flows_sdk.py` and returns what it saw. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers of every shape
export async function runFlowsSdk(user: FlowsUser, endpointId: string, functionId: string): Promise<any> {
  const script = join(__dirname, 'scripts', 'flows_sdk.py');
  const { status, stdout, stderr } = await user.run('python', [script, endpointId, functionId], { timeoutMs: 300_000 });
  if (status !== 0) throw new Error(`flows_sdk.py ended with ${status}: ${stderr.slice(-4_000)}${stdout.slice(-1_000)}`);
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
}

const state = (type: string, ...ends: string[]): string[] => ends.map((end) => `${type}${end}`);

export const EVERY_ROUTE = {
  validate: { scopes: { User: expect.any(Array) }, analysis: { not_portable: [] } },
  invalid: [422, 'UNPROCESSABLE_ENTITY', expect.arrayContaining([expect.stringContaining('Nowhere')])],
  transfer: [409, 'SCOPE_RESOLUTION_FAILED'],
  created: [201, ['public']],
  got: true,
  updated: 'every state, again',
  listed: true,
  'refused input': [400, 'FLOW_INPUT_ERROR', ['must be integer']],
  'good input': { message: 'validation successful' },
  'no token of the flow': [403, 'MISSING_SCOPE'],
  started: [201, 'ACTIVE', expect.stringMatching(/^Flow/), ['a b']],
  ended: {
    status: 'SUCCEEDED',
    code: 'FlowSucceeded',
    description: 'every state, again',
    call: [10],
    action: ['SUCCEEDED', 'Call'],
    sum: { n: 11, list: [4, 6] },
    caught: 'ActionFailedException',
    hidden: true,
  },
  log: [
    'FlowStarted',
    ...state('Pass', 'Started', 'Completed'),
    ...state('Action', 'Started', 'Completed'),
    ...state('ExpressionEval', 'Started', 'Completed'),
    ...state('Choice', 'Started', 'Completed'),
    ...state('Wait', 'Started', 'Completed'),
    ...state('Action', 'Started', 'Failed'),
    ...state('Pass', 'Started', 'Completed'),
    'FlowSucceeded',
  ],
  'log is hidden': true,
  newest: 'FlowSucceeded',
  definition: true,
  renamed: 'new label',
  'in list': true,
  failed: ['FAILED', 'FlowFailed', true],
  'release of an open run': [409, 'STATE_CONFLICT'],
  cancel: 202,
  cancelled: ['FAILED', 'FlowCanceled'],
  resumed: 'ACTIVE',
  'failed again': 'FAILED',
  released: [404, 'NOT_FOUND'],
  deleted: true,
  gone: [404, 'NOT_FOUND'],
  apis: [],
  'web inputs': [],
  'no web input': [404, 'NOT_FOUND'],
};
