/**
 * Records the histories that `test/component/replay.test.ts` replays. Run by hand against a running system, after a change
 * of a workflow that old histories need not survive (before 0.1.0), or to add a path (later: only ever add):
 *   npm run up -- --detach && node test/histories/record.mjs [--data-dir DIR] [NAME ...]
 * `call-with-overlapping-local-activities` is of workers that were killed again and again, and cannot be recorded like this.
 * `flow-http-action` needs a system that was started with FUNCX_FLOWS_HTTP_ALLOW=http://127.0.0.1:<free port>/*, and the
 * same variable here. The examples and what they need must be there: `npm run test:pipelines` compiles and installs both.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { flowPaths } from './record-flows.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..');
const require = createRequire(join(root, 'package.json'));
const { Client, Connection } = require('@temporalio/client');
const { historyToJSON } = require('@temporalio/common/lib/proto-utils');
const { submissionIdOf } = require('./dist/contracts/ids.js');
const { endpointWorkflowId, SIGNAL } = require('./dist/contracts/names.js');
const { packJsonArguments, JSON_RESULT_SERIALIZER } = require('./dist/contracts/packing.js');

const args = process.argv.slice(2);
const at = args.indexOf('--data-dir');
const [, dataDir = join(root, '.funcx-data')] = at < 0 ? [] : args.splice(at, 2);
const wanted = new Set(args);

const readState = () => JSON.parse(readFileSync(join(dataDir, 'run', 'state.json'), 'utf8'));
const state = readState();
const identity = JSON.parse(readFileSync(state.identity_file, 'utf8'));
const agentEnv = JSON.parse(readFileSync(state.env_files.endpoint, 'utf8'));
// An id of its own: that of the system's local endpoint is taken.
delete agentEnv.FUNCX_ENDPOINT_ID;
delete agentEnv.FUNCX_ENDPOINT_PUBLIC;
const connection = await Connection.connect({ address: state.temporal_address });
const temporal = new Client({ connection });

const scope = encodeURIComponent('https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all');
const basic = Buffer.from(`${identity.client_id}:${identity.client_secret}`).toString('base64');
const granted = await fetch(`${state.api_url}/v2/oauth2/token`, {
  method: 'POST',
  headers: { authorization: `Basic ${basic}`, 'content-type': 'application/x-www-form-urlencoded' },
  body: `grant_type=client_credentials&scope=${scope}`,
});
const token = (await granted.json()).access_token;

async function http(method, path, body) {
  const answer = await fetch(state.api_url + path, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return JSON.parse(text);
}

async function until(what, condition) {
  const end = Date.now() + 300_000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`this did not come true: ${what}`);
    await delay(100);
  }
}

async function registerPython(source) {
  const body = { function_name: 'f', function_code: source, serialized: false, meta: {} };
  return (await http('POST', '/v3/functions', body)).function_uuid;
}

async function submit(endpointId, functionId, calls, policy) {
  const { tasks } = await http('POST', `/v3/endpoints/${endpointId}/submit`, {
    create_queue: false,
    tasks: { [functionId]: calls.map((call) => packJsonArguments(call)) },
    result_serializers: [JSON_RESULT_SERIALIZER],
    user_runtime: {},
    ...(policy ? { resource_specification: { funcx: policy } } : {}),
  });
  const ids = tasks[functionId];
  const submissionId = submissionIdOf(ids[0]);
  const { workflow_id: workflowId } = await http('GET', `/v1/submissions/${submissionId}`);
  return { ids, submissionId, workflowId };
}

const closed = (workflowId) =>
  until(`${workflowId} is closed`, async () => (await temporal.workflow.getHandle(workflowId).describe()).status.name !== 'RUNNING');
const inState = (submissionId, wantedState) =>
  until(`${submissionId} is ${wantedState}`, async () => (await http('GET', `/v1/submissions/${submissionId}`)).state === wantedState);

/** An agent beside the local one, which can be away. */
class Agent {
  dir = mkdtempSync(join(tmpdir(), 'funcx-record-'));
  get id() {
    return JSON.parse(readFileSync(join(this.dir, 'endpoint.json'), 'utf8')).endpoint_id;
  }
  async start() {
    const env = {
      ...process.env,
      ...agentEnv,
      // The identity of the local agent may serve its own endpoint only.
      FUNCX_CLIENT_ID: identity.client_id,
      FUNCX_CLIENT_SECRET: identity.client_secret,
      FUNCX_ENDPOINT_NAME: 'recorded',
      FUNCX_ENDPOINT_DIR: this.dir,
      FUNCX_WORKERS: '1',
    };
    this.process = spawn(process.execPath, [join(root, 'dist', 'endpoint', 'main.js')], { env, stdio: 'ignore' });
    await this.untilStatus('online');
  }
  async stop() {
    this.process.kill('SIGTERM');
    await this.untilStatus('offline');
  }
  async die() {
    const gone = new Promise((resolve) => this.process.once('exit', resolve));
    this.process.kill('SIGKILL');
    await gone;
  }
  untilStatus(status) {
    return until(`the agent is ${status}`, async () => {
      try {
        return (await http('GET', `/v2/endpoints/${this.id}/status`)).status === status;
      } catch {
        return false; // not registered yet
      }
    });
  }
}

const add = await registerPython('def f(a, b):\n    return a + b\n');
const flaky = await registerPython(
  'def f(path):\n    import os\n    if os.path.exists(path):\n        return 1\n    open(path, "w").close()\n    raise TimeoutError("first time")\n',
);
const slow = await registerPython('def f(seconds):\n    import time\n    time.sleep(seconds)\n');
const local = state.endpoint.id;

const python = join(root, '.cache', 'temporalio-py', 'bin', 'python');
const author = {
  ...process.env,
  TEMPORAL_ADDRESS: state.temporal_address,
  FUNCX_API_URL: state.api_url,
  FUNCX_CLIENT_ID: identity.client_id,
  FUNCX_CLIENT_SECRET: identity.client_secret,
  PYTHONPATH: join(root, 'python'),
};

/** Runs the pipeline of an example to its end; `meanwhile` is done while it runs. Returns its workflow id. */
async function runExample(name, { type, taskQueue, args, meanwhile = async () => undefined }) {
  const [command, file] =
    name === 'python-pipeline'
      ? [python, join(root, 'examples', name, 'worker.py')]
      : [process.execPath, join(root, 'dist', 'examples', name, 'worker.js')];
  const worker = spawn(command, [file], { env: author, stdio: 'ignore' });
  try {
    const handle = await temporal.workflow.start(type, { taskQueue, workflowId: `recorded-${name}-${Date.now()}`, args });
    await meanwhile(handle);
    await handle.result();
    return handle.workflowId;
  } finally {
    worker.kill('SIGTERM');
  }
}

/** A pipeline whose second call waits for its endpoint first. */
const offlineStep = () => ({
  type: 'acquireThenAnalyse',
  taskQueue: 'offline-step',
  args: [5, local, away.id],
  meanwhile: async ({ workflowId }) => {
    const call = temporal.workflow.getHandle(`${workflowId}/analyse-2`);
    await until('the call waits', async () => {
      const metadata = await call.query('__temporal_workflow_metadata').catch(() => undefined); // not started yet
      return JSON.stringify(metadata ?? '').includes('waiting for the endpoint');
    });
    await away.start();
  },
});

const sweep = { type: 'sweep', taskQueue: 'training-sweep', args: [local, [0.001, 0.1, 0.5]] };

const fatal = await registerPython(
  'def f(path):\n    import os\n    if os.path.exists(path):\n        return 1\n    open(path, "w").close()\n    os.kill(os.getpid(), 9)\n',
);
const slowOnce = await registerPython(
  'def f(path):\n    import os, time\n    if os.path.exists(path):\n        return 1\n    open(path, "w").close()\n    time.sleep(600)\n',
);
const freshPath = () => join(mkdtempSync(join(tmpdir(), 'funcx-record-')), 'seen');

/** Nudges a submission that waits until it continues as a new run; resolves with the ids of both runs. */
async function nudgedIntoNewRun(workflowId) {
  const handle = temporal.workflow.getHandle(workflowId);
  const { runId: first } = await handle.describe();
  const second = await until(`${workflowId} continues as new`, async () => {
    for (let n = 0; n < 20; n++) await handle.signal(SIGNAL.nudge);
    const { runId } = await handle.describe();
    return runId === first ? undefined : runId;
  });
  return { first, second };
}
let renewed;
/** Both runs of one submission: it waits, is nudged often, then runs. */
async function renewedSubmission() {
  if (renewed) return renewed;
  await away.stop();
  const { workflowId } = await submit(away.id, add, [[1, 2]], { retries: { attempts: 2, backoff_s: 1 } });
  await waitingIn(workflowId);
  const runs = await nudgedIntoNewRun(workflowId);
  await away.start();
  await closed(workflowId);
  return (renewed = { workflowId, ...runs });
}

/** Each returns the id of the workflow whose history is kept, or that and the id of the run. */
const PATHS = {
  async 'submission-single-call'() {
    const { workflowId } = await submit(local, add, [[1, 2]]);
    await closed(workflowId);
    return workflowId;
  },
  async 'submission-batch-with-retries'() {
    const folder = mkdtempSync(join(tmpdir(), 'funcx-record-'));
    const calls = Array.from({ length: 8 }, (_, n) => [join(folder, String(n))]);
    const { workflowId } = await submit(local, flaky, calls, { retries: { attempts: 3, backoff_s: 0.5 } });
    await closed(workflowId);
    return workflowId;
  },
  async 'submission-failed'() {
    const { workflowId } = await submit(local, add, [[1]]);
    await closed(workflowId);
    return workflowId;
  },
  async 'submission-walltime'() {
    const { workflowId } = await submit(local, slow, [[60]], { walltime_s: 1 });
    await closed(workflowId);
    return workflowId;
  },
  async 'submission-cancelled-while-running'() {
    const { workflowId, submissionId } = await submit(local, slow, [[60]]);
    await inState(submissionId, 'running').catch(() => undefined);
    await http('POST', `/v1/submissions/${submissionId}/cancel`);
    await closed(workflowId);
    return workflowId;
  },
  async 'submission-offline-then-run'() {
    await away.stop();
    const { workflowId } = await submit(away.id, add, [[1, 2], [3, 4]]);
    await waitingIn(workflowId);
    await away.start();
    await closed(workflowId);
    return workflowId;
  },
  async 'submission-cancelled-in-temporal'() {
    await away.stop();
    const { workflowId } = await submit(away.id, add, [[1, 2]]);
    await waitingIn(workflowId);
    await temporal.workflow.getHandle(workflowId).cancel();
    await closed(workflowId);
    await away.start();
    return workflowId;
  },
  async 'submission-expired'() {
    await away.stop();
    const { workflowId } = await submit(away.id, add, [[1, 2]], { deadline_s: 1 });
    await closed(workflowId);
    await away.start();
    return workflowId;
  },
  async 'examples/map-reduce'() {
    const folder = mkdtempSync(join(tmpdir(), 'funcx-record-'));
    for (const name of ['a', 'b']) writeFileSync(join(folder, `${name}.txt`), `the words of ${name}`);
    const args = [[{ endpoint: local, folder }]];
    return runExample('map-reduce', { type: 'countWordsEverywhere', taskQueue: 'word-count', args });
  },
  async 'examples/training-sweep'() {
    return runExample('training-sweep', sweep);
  },
  async 'examples/approval'() {
    return runExample('approval', {
      type: 'publishAfterApproval',
      taskQueue: 'approval',
      args: [[1, 2, 6], local, local],
      meanwhile: async (handle) => {
        await until('there is a summary', () => handle.query('summary'));
        await handle.executeUpdate('decide', { args: [{ by: 'Ada', approved: true }] });
      },
    });
  },
  async 'examples/offline-step'() {
    await away.stop();
    return runExample('offline-step', offlineStep());
  },
  async 'examples/python-pipeline'() {
    return runExample('python-pipeline', { type: 'FitCurve', taskQueue: 'fit-curve', args: [local, local] });
  },
  async 'call-that-waits-first'() {
    await away.stop();
    return `${await runExample('offline-step', offlineStep())}/analyse-2`;
  },
  async 'call-of-a-map-with-failures'() {
    return `${await runExample('training-sweep', sweep)}/train-x3-1`;
  },
  async 'call-cancelled'() {
    const handle = await temporal.workflow.start('funcxCall', {
      taskQueue: 'funcx-calls',
      workflowId: `recorded-cancelled-${Date.now()}`,
      args: [{ function: slow, endpoint: local, args: [60] }],
    });
    const details = () => handle.query('__temporal_workflow_metadata');
    await until('the call runs', async () => JSON.stringify(await details()).includes(': running'));
    await handle.cancel();
    await closed(handle.workflowId);
    return handle.workflowId;
  },
  async 'submission-worker-lost'() {
    const { workflowId } = await submit(local, fatal, [[freshPath()]]);
    await closed(workflowId);
    return workflowId;
  },
  async 'submission-agent-lost'() {
    const { workflowId, submissionId } = await submit(away.id, slowOnce, [[freshPath()]], { walltime_s: 300 });
    await inState(submissionId, 'running');
    await until('a worker runs it', async () => (await temporal.workflow.getHandle(workflowId).query('tasks')).running > 0);
    await away.die();
    await away.start();
    await closed(workflowId);
    return workflowId;
  },
  async 'submission-overdue'() {
    // Its agent is silent, so nobody but the service can end it.
    const { ids, workflowId } = await submit(away.id, slow, [[600]], { walltime_s: 3 });
    await until('it runs', async () => (await http('GET', `/v1/tasks/${ids[0]}`)).state === 'running');
    away.process.kill('SIGSTOP');
    await closed(workflowId);
    away.process.kill('SIGCONT');
    await away.untilStatus('online');
    return workflowId;
  },
  async 'submission-store-away'() {
    await away.stop();
    const { workflowId } = await submit(away.id, add, [[1, 2]]);
    await waitingIn(workflowId);
    const handle = temporal.workflow.getHandle(workflowId);
    await handle.signal(SIGNAL.nudge);
    await until('the step is an ordinary activity', async () => {
      const { pid } = readState().services.find(({ name }) => name === 'postgres');
      if (pid) process.kill(pid, 'SIGKILL');
      await handle.signal(SIGNAL.nudge);
      return (await handle.fetchHistory()).events.some((event) => event.activityTaskScheduledEventAttributes);
    });
    await until('the store is back', async () => readState().services.find(({ name }) => name === 'postgres').state === 'ready');
    await away.start();
    await closed(workflowId);
    return workflowId;
  },
  async 'submission-continued-as-new'() {
    const { workflowId, first } = await renewedSubmission();
    return { workflowId, runId: first };
  },
  async 'submission-after-continue-as-new'() {
    const { workflowId, second } = await renewedSubmission();
    return { workflowId, runId: second };
  },
  async 'endpoint-presence-and-pump'() {
    await PATHS['submission-offline-then-run']();
    const workflowId = endpointWorkflowId(away.id);
    await until('the pump has ended', async () => {
      const presence = await temporal.workflow.getHandle(workflowId).query('presence');
      return presence.isOnline && presence.dispatched > 0 && !presence.isPumping;
    });
    return workflowId;
  },
};

Object.assign(PATHS, flowPaths({ root, state, identity, temporal, until, closed, local, add, slow }));

const waitingIn = (workflowId) =>
  until(`${workflowId} waits`, async () => (await temporal.workflow.getHandle(workflowId).query('tasks')).waiting > 0);

mkdirSync(join(here, 'examples'), { recursive: true });
const away = new Agent();
await away.start();
try {
  for (const [name, walk] of Object.entries(PATHS)) {
    if (wanted.size > 0 && !wanted.has(name)) continue;
    const kept = await walk();
    const { workflowId, runId } = typeof kept === 'string' ? { workflowId: kept } : kept;
    const history = historyToJSON(await temporal.workflow.getHandle(workflowId, runId).fetchHistory());
    // Who recorded it, and where, is nobody's business.
    const text = history
      .replaceAll(/"identity": "[^"]*"/g, '"identity": "recorded"')
      .replaceAll(/"name": "\d+@[^"]*"/g, '"name": "recorded-sticky-queue"');
    const recorded = { workflowId, history: JSON.parse(text) };
    const { length } = recorded.history.events;
    // Nobody reads hundreds of events; without their spaces they are half as large.
    writeFileSync(join(here, `${name}.json`), `${JSON.stringify(recorded, null, length > 200 ? 0 : 1)}\n`);
    console.log(`${name}: ${length} events`);
  }
} finally {
  away.process.kill('SIGTERM');
  await connection.close();
}
