import { spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { agentPython } from '../helpers/agent-python';
import { FakeDatabase, person, startApi, type ApiHarness } from '../helpers/api-harness';
import { finished } from '../helpers/own-loopback';

/** What the published SDK says about releases that do not go together, from what a worker of each reported. */

const TASK = '016c0000-b606-8592-8e44-2cd6aaf00001';

/** Recorded from a worker with Python 3.9. */
const DETAILS = {
  os: 'Linux-6.1.0-x86_64-with-glibc2.36',
  python_version: '3.9.18',
  dill_version: '0.3.9',
  globus_compute_sdk_version: '4.19.0',
  endpoint_id: '7aab58b9-d321-42d8-b3ce-96027553fc42',
};

const SCRIPT = `
import sys, warnings
import globus_sdk
from globus_compute_sdk import Client
warnings.simplefilter("always")
client = Client(authorizer=globus_sdk.AccessTokenAuthorizer("token-alice"))
try:
    print(client.get_result("${TASK}"))
except Exception as error:
    print(type(error).__name__)
`;

let api: ApiHarness;
let python: string;

beforeAll(async () => {
  python = await agentPython();
}, 300_000);
afterEach(() => api.close());

async function askForResult(message: object): Promise<{ stdout: string; stderr: string }> {
  const frame = Buffer.from(`\x01${JSON.stringify({ message_type: 'result', data: { task_id: TASK, ...message } })}`);
  const row = {
    id: TASK,
    ownerId: person('alice').id,
    state: 'error_details' in message && message.error_details ? 'failed' : 'succeeded',
    attempt: 1,
  };
  const db = new FakeDatabase().on('find-task', [{ ...row, answeredAt: new Date(), frame }]);
  api = await startApi({ db: db.asDatabase() });
  const env = {
    PATH: process.env.PATH,
    GLOBUS_COMPUTE_USER_DIR: mkdtempSync(join(tmpdir(), 'funcx-versions-')),
    GLOBUS_SDK_ENVIRONMENT: 'local',
    HTTP_PROXY: api.url,
    http_proxy: api.url,
    NO_PROXY: '',
    no_proxy: '',
  };
  const { status, stdout, stderr } = await finished(spawn(python, ['-c', SCRIPT], { env }), 60_000);
  if (status !== 0) throw new Error(stderr);
  return { stdout, stderr };
}

describe("a worker's release that differs from the submitter's", () => {
  test('is shown as a warning by the SDK, beside the failure of the task', async () => {
    const failure = { code: 'RemoteExecutionError', user_message: 'bad opcode' };
    const { stdout, stderr } = await askForResult({ data: 'bad opcode', error_details: failure, details: DETAILS });
    expect(stdout).toBe('TaskExecutionFailed\n');
    expect(stderr).toMatch(/Environment differences detected[\s\S]*Workers: Python 3\.9\.18/);
    expect(stderr).toContain(DETAILS.endpoint_id);
  });

  test('is no matter where the worker reported none', async () => {
    const { stdout, stderr } = await askForResult({ data: '11\n42', error_details: null, details: null });
    expect(stdout).toBe('42\n');
    expect(stderr).not.toContain('Environment differences');
  });
});

test('an endpoint of one user before 4.0 is told which release it needs', async () => {
  api = await startApi({ db: new FakeDatabase().asDatabase() });
  const registration = { endpoint_name: 'old', public: false, high_assurance: false, metadata: { endpoint_version: '3.16.1' } };
  const answer = await api.request('alice', 'POST', '/v3/endpoints', registration);
  expect(answer).toMatchObject({ status: 422, body: { code: 'INVALID_REQUEST' } });
  expect(answer.body.message).toContain('globus-compute-endpoint 3.16.1 is too old; this service needs 4.0 or newer');
});
