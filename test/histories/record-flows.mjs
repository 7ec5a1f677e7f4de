/** The paths of flows, for record.mjs: one history for each kind of state and each way in which a run ends. */
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** `setup`: what record.mjs has: root, state, identity, temporal, until, closed, functions and endpoints. */
export function flowPaths({ root, state, identity, temporal, until, closed, local, add, slow }) {
  const require = createRequire(join(root, 'package.json'));
  const { flowWorkflowId } = require('./dist/contracts/flows.js');
  const FLOWS = 'https://auth.globus.org/scopes/eec9b274-0c81-4334-bdc2-54e90e689b9a/all';
  const COMPUTE = 'https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all';
  const scopeOf = (id) => `https://auth.globus.org/scopes/${id}/flow_${id.replaceAll('-', '_')}_user`;

  async function call(method, path, body, scope = FLOWS) {
    const basic = Buffer.from(`${identity.client_id}:${identity.client_secret}`).toString('base64');
    const granted = await fetch(`${state.api_url}/v2/oauth2/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${basic}`, 'content-type': 'application/x-www-form-urlencoded' },
      body: `grant_type=client_credentials&scope=${encodeURIComponent(scope)}`,
    });
    const answer = await fetch(state.api_url + path, {
      method,
      headers: { authorization: `Bearer ${(await granted.json()).access_token}`, 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return JSON.parse(text);
  }

  async function start(definition, input = {}) {
    const { id } = await call('POST', '/flows', { title: 'recorded', definition, input_schema: {} });
    const { run_id: runId } = await call('POST', `/flows/${id}/run`, { body: input, label: 'recorded' }, scopeOf(id));
    return { flowId: id, runId, workflowId: flowWorkflowId(runId) };
  }
  async function run(definition, input) {
    const { workflowId } = await start(definition, input);
    await closed(workflowId);
    return workflowId;
  }
  const inState = (runId, name) =>
    until(`${runId} is in ${name}`, async () => (await call('GET', `/runs/${runId}`)).details.state_name === name);

  const action = (fn, kwargs, more) => ({
    Type: 'Action',
    ActionUrl: 'https://compute.actions.globus.org/v3',
    Parameters: { endpoint_id: local, tasks: [{ function_id: fn, kwargs }] },
    WaitTime: 120,
    ...more,
  });
  const one = (type, fields) => ({ StartAt: 'A', States: { A: { Type: type, End: true, ...fields } } });
  const loop = (most, body) => ({
    StartAt: 'Count',
    States: {
      Count: { Type: 'ExpressionEval', Parameters: { 'n.=': 'n + 1' }, ResultPath: '$', Next: 'Body' },
      Body: { ...body, Next: 'More' },
      More: { Type: 'Choice', Choices: [{ Variable: '$.n', NumericLessThan: most, Next: 'Count' }], Default: 'Done' },
      Done: { Type: 'Pass', End: true },
    },
  });
  const firstOf = async (workflowId) => {
    const { runId, raw } = await temporal.workflow.getHandle(workflowId).describe();
    return raw.workflowExecutionInfo?.firstRunId || runId;
  };

  return {
    'flow-pass': () => run(one('Pass', { Parameters: { a: 1 } })),
    'flow-expression-eval': () => run(one('ExpressionEval', { Parameters: { 'a.=': '1 + 1' }, ResultPath: '$.sum' })),
    'flow-choice': () =>
      run({
        StartAt: 'A',
        States: {
          A: { Type: 'Choice', Choices: [{ Variable: '$.n', NumericEquals: 1, Next: 'B' }] },
          B: { Type: 'Pass', End: true },
        },
      }, { n: 1 }),
    'flow-wait': () => run(one('Wait', { Seconds: 1 })),
    'flow-fail': () => run({ StartAt: 'A', States: { A: { Type: 'Fail', Error: 'Given', Cause: 'as asked' } } }),
    'flow-action': () => run({ StartAt: 'A', States: { A: action(add, { a: 1, b: 2 }, { ResultPath: '$.sum', End: true }) } }),
    'flow-action-retried-and-caught': () =>
      run({
        StartAt: 'A',
        States: {
          A: action(add, { a: 1, b: 'x' }, {
            Retry: [{ ErrorEquals: ['ActionFailedException'], IntervalSeconds: 1, MaxAttempts: 1 }],
            Catch: [{ ErrorEquals: ['States.ALL'], Next: 'B' }],
            End: true,
          }),
          B: { Type: 'Pass', End: true },
        },
      }),
    'flow-action-refused': () => run({ StartAt: 'A', States: { A: action('no-such-function', {}, { End: true }) } }),
    'flow-action-timed-out': () => run({ StartAt: 'A', States: { A: action(slow, { seconds: 60 }, { WaitTime: 2, End: true }) } }),
    'flow-hello': () =>
      run(one('Action', { ActionUrl: 'https://actions.globus.org/hello_world', Parameters: { echo_string: 'x', sleep_time: 1 } })),
    async 'flow-cancelled-while-an-action-runs'() {
      const { runId, workflowId } = await start({ StartAt: 'A', States: { A: action(slow, { seconds: 60 }, { End: true }) } });
      await inState(runId, 'A');
      await until('its submission runs', async () =>
        (await temporal.workflow.getHandle(workflowId).fetchHistory()).events.some((event) => event.childWorkflowExecutionStartedEventAttributes),
      );
      await call('POST', `/runs/${runId}/cancel`);
      await closed(workflowId);
      return workflowId;
    },
    async 'flow-resumed'() {
      const path = `/tmp/funcx-record-${Date.now()}`;
      const { flowId, runId, workflowId } = await start({
        StartAt: 'A',
        States: { A: { Type: 'ExpressionEval', Parameters: { 'a.=': `1 if '${path}' == '' else gone` }, ResultPath: '$', End: true } },
      });
      await closed(workflowId);
      await call('POST', `/runs/${runId}/resume`, undefined, scopeOf(flowId));
      await until('it ends again', async () => (await call('GET', `/runs/${runId}`)).status === 'FAILED');
      await closed(workflowId);
      return workflowId;
    },
    async 'flow-http-action'() {
      // The system was started with FUNCX_FLOWS_HTTP_ALLOW=http://127.0.0.1:<port>/*
      const { port } = new URL(process.env.FUNCX_FLOWS_HTTP_ALLOW.split(',')[0].replace('*', ''));
      let polls = 0;
      const server = createServer((request, response) => {
        request.resume();
        request.on('end', () => response.end(JSON.stringify({ action_id: 'a', status: ++polls > 1 ? 'SUCCEEDED' : 'ACTIVE', details: {} })));
      });
      await new Promise((resolve) => server.listen(Number(port), '127.0.0.1', resolve));
      const workflowId = await run(one('Action', { ActionUrl: `http://127.0.0.1:${port}/provider`, Parameters: {}, WaitTime: 60 }));
      server.close();
      server.closeAllConnections();
      return workflowId;
    },
    async 'flow-map'() {
      const inner = { StartAt: 'I', States: { I: { Type: 'Wait', Seconds: 1, End: true } } };
      return run(one('Map', { ItemsPath: '$.items', ItemProcessor: inner, MaxConcurrency: 2 }), { items: [1, 2, 3, 4, 5] });
    },
    async 'flow-map-that-computes'() {
      const inner = { StartAt: 'I', States: { I: { Type: 'Fail', Error: 'Given', Cause: 'always' } } };
      const fields = { ItemsPath: '$.items', ItemProcessor: inner, MaxConcurrency: 2, ToleratedFailureCount: 1 };
      return childOf(await run(one('Map', fields), { items: [1, 2, 3, 4, 5, 6] }), 'flowMap');
    },
    async 'flow-map-of-children'() {
      const inner = { StartAt: 'I', States: { I: { Type: 'Wait', Seconds: 1, End: true } } };
      const fields = { ItemsPath: '$.items', ItemProcessor: inner, MaxConcurrency: 2 };
      return childOf(await run(one('Map', fields), { items: [1, 2, 3, 4, 5] }), 'flowMap');
    },
    async 'flow-map-that-gives-up'() {
      const inner = {
        StartAt: 'I',
        States: { I: { Type: 'Wait', SecondsPath: '$', Next: 'F' }, F: { Type: 'Fail', Error: 'Given', Cause: 'always' } },
      };
      const fields = { ItemsPath: '$.items', ItemProcessor: inner, MaxConcurrency: 3 };
      return childOf(await run(one('Map', fields), { items: [1, 30, 30, 30] }), 'flowMap');
    },
    async 'flow-line'() {
      const inner = { StartAt: 'I', States: { I: { Type: 'Wait', Seconds: 1, End: true } } };
      const workflowId = await run(one('Map', { ItemsPath: '$.items', ItemProcessor: inner }), { items: [1] });
      return childOf(await childOf(workflowId, 'flowMap'), 'flowLine');
    },
    async 'flow-parallel'() {
      const branch = { StartAt: 'I', States: { I: { Type: 'Pass', End: true } } };
      return run(one('Parallel', { Branches: [branch, branch] }));
    },
    async 'flow-continued-as-new'() {
      const workflowId = await run(loop(235, { Type: 'Wait', Seconds: 0 }), { n: 0 });
      return { workflowId, runId: await firstOf(workflowId) };
    },
    'flow-after-continue-as-new': () => run(loop(235, { Type: 'Wait', Seconds: 0 }), { n: 0 }),
    async 'flow-schedule'() {
      const { id } = await call('POST', '/flows', { title: 'recorded', definition: one('Pass', {}), input_schema: {} });
      const name = `recorded-${Date.now()}`;
      const made = await call('POST', '/v1/schedules', { name, target: { flow: id }, every_s: 86_400 }, COMPUTE);
      await call('POST', `/v1/schedules/${made.schedule_id}/trigger`, undefined, COMPUTE);
      const workflowId = await until('the schedule has fired', async () => {
        const query = `WorkflowType = 'flowSchedule' AND WorkflowId STARTS_WITH 'flow-schedule/${made.schedule_id}'`;
        for await (const found of temporal.workflow.list({ query })) return found.workflowId;
        return undefined;
      });
      await closed(workflowId);
      await call('DELETE', `/v1/schedules/${made.schedule_id}`, undefined, COMPUTE);
      return workflowId;
    },
  };

  /** The first child of this type. */
  async function childOf(workflowId, type) {
    const { events } = await temporal.workflow.getHandle(workflowId).fetchHistory();
    const started = events.map((event) => event.childWorkflowExecutionStartedEventAttributes).filter(Boolean);
    return started.find(({ workflowType }) => workflowType.name === type).workflowExecution.workflowId;
  }
}
