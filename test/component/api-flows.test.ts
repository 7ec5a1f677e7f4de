import { randomUUID } from 'node:crypto';

import type { Identity } from '../../platform/access';
import { readRunStart } from '../../platform/store/flow-run-inputs';
import { recordRun } from '../../platform/store/flow-run-progress';
import { person, startApi, type ApiHarness } from '../helpers/api-harness';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';

/** The routes of Globus Flows on a store of their own, with nobody who runs anything. */

const SERVER = 'flows.globus.org';
const flows = (name: string, extra: Partial<Identity> = {}): Identity =>
  person(name, { id: randomUUID(), resourceServer: SERVER, ...extra });
const owner = flows('owner');
const other = flows('other');
const member = flows('member', { groups: new Set([randomUUID()]) });
const compute = { ...owner, name: 'compute', resourceServer: 'funcx_service' };
/** Tokens of one flow, added when the flow is there. */
const people = [owner, other, member, compute];

let postgres: ScratchPostgres;
let api: ApiHarness;
const started: { runId: string; generation: number }[] = [];
const cancelled: string[] = [];
let isTemporalAway = false;

beforeAll(async () => {
  postgres = await startScratchPostgres();
  for (const one of [owner, other, member])
    await postgres.db.query(`insert into identities (id, name, secret_hash) values ($1, $2, 'x')`, [one.id, one.name]);
  api = await startApi({
    db: postgres.db,
    people,
    deps: {
      flowStarts: {
        start: async (input) => Boolean(started.push(input)),
        cancel: async (id) => {
          cancelled.push(id);
          if (isTemporalAway) throw new Error('no answer');
          return true;
        },
      },
    },
  });
}, 60_000);
afterAll(async () => {
  await api.close();
  await postgres.stop();
});

const urn = ({ id }: Identity): string => `urn:globus:auth:identity:${id}`;
const DEFINITION = {
  StartAt: 'A',
  States: {
    A: {
      Type: 'Pass',
      Parameters: { __Private_Parameters: ['secret'], secret: 1, 'shown.$': '$.n' },
      ResultPath: '$.A',
      End: true,
    },
  },
};
const SCHEMA = { type: 'object', required: ['n'], properties: { n: { type: 'integer' } } };

async function make(who: string, extra: object = {}): Promise<string> {
  const reply = await api.request(who, 'POST', '/flows', {
    title: 'one',
    definition: DEFINITION,
    input_schema: SCHEMA,
    ...extra,
  });
  expect([reply.status, reply.body]).toEqual([201, expect.anything()]);
  return reply.body.id as string;
}

/** A name under which the identity has a token of the flow. */
function starterOf(identity: Identity, flowId: string): string {
  const name = `${identity.name}-${people.length}`;
  people.push({ ...identity, name, resourceServer: flowId });
  return name;
}

const run = (who: string, id: string, body: object = { body: { n: 1 } }) => api.request(who, 'POST', `/flows/${id}/run`, body);

async function end(runId: string, status: 'SUCCEEDED' | 'FAILED'): Promise<void> {
  const client = await postgres.db.connect();
  await recordRun(client, runId, {
    status,
    completionTime: new Date().toISOString(),
    details: { code: `Flow${status}`, description: 'over', output: {} },
    entries: [],
  });
  client.release();
}

describe('tokens', () => {
  test('a flow is made with a token of the Flows service only', async () => {
    const body = { title: 'one', definition: DEFINITION, input_schema: SCHEMA };
    expect((await api.request('compute', 'POST', '/flows', body)).body.error.code).toBe('MISSING_SCOPE');
    const nobody = await api.request(undefined, 'POST', '/flows', body);
    expect([nobody.status, nobody.body]).toEqual([
      401,
      { error: { code: 'AUTHENTICATION_ERROR', detail: expect.any(String) }, debug_id: expect.any(String) },
    ]);
  });

  test('a flow is started with a token of that flow only', async () => {
    const [id, another] = [await make('owner'), await make('owner')];
    expect((await run('owner', id)).body.error.code).toBe('MISSING_SCOPE');
    expect((await run(starterOf(owner, another), id)).body.error.code).toBe('MISSING_SCOPE');
    expect((await run(starterOf(owner, id), id)).status).toBe(201);
  });
});

describe('flows', () => {
  test('a flow is answered with the fields that the clients read', async () => {
    const id = await make('owner', { subtitle: 's', keywords: ['k'], flow_viewers: ['public'], subscription_id: 'DEFAULT' });
    const { body } = await api.request('owner', 'GET', `/flows/${id}`);
    expect(body).toMatchObject({
      id,
      title: 'one',
      subtitle: 's',
      keywords: ['k'],
      flow_owner: urn(owner),
      flow_viewers: ['public'],
      definition: DEFINITION,
      input_schema: SCHEMA,
      globus_auth_scope: `https://auth.globus.org/scopes/${id}/flow_${id.replaceAll('-', '_')}_user`,
      user_role: 'flow_owner',
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$/),
    });
  });

  test.each([
    ['a title that is missing', { title: undefined }, ['title']],
    ['a policy', { authentication_policy_id: randomUUID() }, ['authentication_policy_id']],
    ['a principal that is no URN', { flow_starters: ['me'] }, ['flow_starters', 0]],
    ['an unknown field', { definitions: {} }, []],
    ['a schema that is none', { input_schema: { type: 'nonsense' } }, ['input_schema', 'type']],
  ])('%s is refused at its path', async (_what, extra, loc) => {
    const body = { title: 'one', definition: DEFINITION, input_schema: SCHEMA, ...extra };
    const reply = await api.request('owner', 'POST', '/flows', body);
    expect([reply.status, reply.body.error]).toEqual([
      422,
      {
        code: 'UNPROCESSABLE_ENTITY',
        message: expect.stringContaining('1 validation error in body'),
        detail: [{ loc, msg: expect.any(String), type: expect.any(String) }],
      },
    ]);
  });

  test('what an update leaves out stays, and a run keeps the definition that it started with', async () => {
    const id = await make('owner', { subtitle: 'stays' });
    const { body } = await run(starterOf(owner, id), id);
    const definition = { StartAt: 'B', States: { B: { Type: 'Pass', End: true } } };
    const changed = await api.request('owner', 'PUT', `/flows/${id}`, { definition, title: 'two' });
    expect(changed.body).toMatchObject({ title: 'two', subtitle: 'stays', definition });
    expect((await api.request('owner', 'GET', `/runs/${body.run_id}/definition`)).body).toEqual({
      flow_id: id,
      definition: DEFINITION,
      input_schema: SCHEMA,
    });
  });

  test('a deleted flow is gone, and its runs stay', async () => {
    const id = await make('owner');
    const { body } = await run(starterOf(owner, id), id);
    const deleted = await api.request('owner', 'DELETE', `/flows/${id}`);
    expect(deleted.body).toMatchObject({ id, DELETED: true, deleted_at: expect.any(String) });
    expect((await api.request('owner', 'GET', `/flows/${id}`)).status).toBe(404);
    expect((await api.request('owner', 'GET', `/runs/${body.run_id}`)).status).toBe(200);
  });

  test('lists go on from marker to marker and take the empty filters of the CLI', async () => {
    const title = randomUUID();
    for (let n = 0; n < 3; n++) await make('other', { title: `${title} ${n}` });
    const query = `filter_roles=flow_owner&filter_fulltext=${title}&orderby=title%20ASC&orderby=updated_at%20DESC&per_page=2`;
    const first = (await api.request('other', 'GET', `/flows?${query}`)).body;
    expect(first).toMatchObject({ limit: 2, has_next_page: true, marker: expect.any(String) });
    const second = (await api.request('other', 'GET', `/flows?${query}&marker=${first.marker}`)).body;
    expect(second).toMatchObject({ has_next_page: false, marker: null });
    const titles = [...first.flows, ...second.flows].map((flow: { title: string }) => flow.title);
    expect(titles).toEqual([0, 1, 2].map((n) => `${title} ${n}`));
    expect((await api.request('other', 'GET', '/runs?filter_flow_id=&filter_roles=')).status).toBe(200);
    expect((await api.request('other', 'GET', '/flows?filter_roles=flow_owners')).status).toBe(200);
    expect((await api.request('other', 'GET', '/flows?orderby=color')).body.error.detail[0].loc).toEqual(['orderby']);
    expect((await api.request('other', 'GET', '/flows?marker=nonsense')).status).toBe(422);
  });
});

describe('roles', () => {
  test('whoever has no role on a flow is told that it does not exist', async () => {
    const id = await make('owner');
    for (const [method, path] of [
      ['GET', `/flows/${id}`],
      ['PUT', `/flows/${id}`],
      ['DELETE', `/flows/${id}`],
    ] as const)
      expect((await api.request('other', method, path, method === 'PUT' ? {} : undefined)).body.error.code).toBe('NOT_FOUND');
    expect((await run(starterOf(other, id), id)).body.error.code).toBe('NOT_FOUND');
  });

  test('a viewer sees the flow without people and private parameters, and may not start it', async () => {
    const id = await make('owner', { flow_viewers: [urn(other)] });
    const { body } = await api.request('other', 'GET', `/flows/${id}`);
    expect(body).toMatchObject({ user_role: 'flow_viewer', flow_viewers: [], visible_to: [] });
    expect(body.definition.States.A.Parameters).toEqual({ 'shown.$': '$.n' });
    const refused = await run(starterOf(other, id), id);
    expect([refused.status, refused.body.error]).toEqual([
      403,
      { code: 'FORBIDDEN', detail: expect.stringContaining('Missing permissions: RUN.') },
    ]);
    expect((await api.request('other', 'PUT', `/flows/${id}`, { title: 'mine' })).status).toBe(403);
  });

  test('a group makes its members starters; the run is theirs and the owner manages it', async () => {
    const [group] = member.groups;
    const id = await make('owner', { flow_starters: [`urn:globus:groups:id:${group}`] });
    const { body } = await run(starterOf(member, id), id);
    expect(body).toMatchObject({ run_owner: urn(member), user_role: 'run_owner' });
    expect((await api.request('owner', 'GET', `/runs/${body.run_id}`)).body.user_role).toBe('run_manager');
    expect((await api.request('other', 'GET', `/runs/${body.run_id}`)).body.error.code).toBe('NOT_FOUND');
  });

  test('a monitor sees a run and may not cancel it', async () => {
    const id = await make('owner');
    const { body } = await run(starterOf(owner, id), id, { body: { n: 1 }, run_monitors: [urn(other)] });
    expect((await api.request('other', 'GET', `/runs/${body.run_id}`)).body.user_role).toBe('run_monitor');
    expect((await api.request('other', 'POST', `/runs/${body.run_id}/cancel`)).status).toBe(403);
  });

  test('an administrator can make themselves the owner, and nobody else', async () => {
    const id = await make('owner', { flow_administrators: [urn(other)] });
    expect((await api.request('other', 'PUT', `/flows/${id}`, { flow_owner: urn(member) })).status).toBe(403);
    expect((await api.request('other', 'PUT', `/flows/${id}`, { flow_owner: urn(other) })).body.user_role).toBe('flow_owner');
  });
});

describe('runs', () => {
  test('an input that the schema refuses is told with its path, and starts nothing', async () => {
    const id = await make('owner');
    const before = started.length;
    const reply = await run(starterOf(owner, id), id, { body: { n: 'one' } });
    expect([reply.status, reply.body.error]).toEqual([
      400,
      {
        code: 'FLOW_INPUT_ERROR',
        message: 'Input failed schema validation with 1 error.',
        detail: [{ loc: ['$.n'], msg: 'must be integer', type: 'InvalidActionInput' }],
      },
    ]);
    expect(started).toHaveLength(before);
  });

  test('a schema whose pattern takes forever is given up after a second', async () => {
    const id = await make('owner', { input_schema: { properties: { n: { type: 'string', pattern: '^(a+)+$' } } } });
    const reply = await run(starterOf(owner, id), id, { body: { n: `${'a'.repeat(40)}!` } });
    expect([reply.status, reply.body.error.message]).toEqual([400, expect.stringContaining('longer than')]);
  });

  test('two equal starts are two runs', async () => {
    const id = await make('owner');
    const who = starterOf(owner, id);
    const [a, b] = [await run(who, id), await run(who, id)];
    expect(a.body.run_id).not.toBe(b.body.run_id);
    expect(a.body).toMatchObject({ status: 'ACTIVE', details: { code: 'FlowStarting' }, label: 'one', completion_time: null });
  });

  test('private keys of the input reach the run and no log', async () => {
    const id = await make('owner');
    const { body } = await run(starterOf(owner, id), id, { body: { n: 1, _private_key: 'x' } });
    expect(await readRunStart(postgres.db, body.run_id as string)).toMatchObject({ input: { n: 1, _private_key: 'x' } });
    const log = await api.request('owner', 'GET', `/runs/${body.run_id}/log`);
    expect(log.body).toMatchObject({
      limit: 10,
      has_next_page: false,
      entries: [{ code: 'FlowStarted', details: { input: { n: 1 } } }],
    });
    expect(JSON.stringify([log.body, body])).not.toContain('_private_key');
  });

  test('label and tags of a run can be changed, and its flow described', async () => {
    const id = await make('owner');
    const { body } = await run(starterOf(owner, id), id);
    const changed = await api.request('owner', 'PUT', `/runs/${body.run_id}`, { label: 'new', tags: ['  a   b '] });
    expect(changed.body).toMatchObject({ label: 'new', tags: ['a b'] });
    const described = await api.request('owner', 'GET', `/runs/${body.run_id}?include_flow_description=True`);
    expect(described.body.flow_description).toMatchObject({ id, title: 'one', flow_owner: urn(owner) });
    expect((await api.request('owner', 'GET', `/runs/${body.run_id}`)).body.flow_description).toBeUndefined();
  });

  test('a run is released only after its end', async () => {
    const id = await make('owner');
    const { body } = await run(starterOf(owner, id), id);
    const refused = await api.request('owner', 'POST', `/runs/${body.run_id}/release`);
    expect([refused.status, refused.body.error.code]).toEqual([409, 'STATE_CONFLICT']);
    await end(body.run_id as string, 'SUCCEEDED');
    expect((await api.request('owner', 'POST', `/runs/${body.run_id}/release`)).status).toBe(200);
    expect((await api.request('owner', 'GET', `/runs/${body.run_id}`)).status).toBe(404);
  });

  test('cancelling asks the workflow of a run that goes on, and nothing after its end', async () => {
    const id = await make('owner');
    const { body } = await run(starterOf(owner, id), id);
    expect((await api.request('owner', 'POST', `/runs/${body.run_id}/cancel`)).status).toBe(202);
    expect(cancelled).toContain(body.run_id);
    await end(body.run_id as string, 'FAILED');
    cancelled.length = 0;
    expect((await api.request('owner', 'POST', `/runs/${body.run_id}/cancel`)).status).toBe(202);
    expect(cancelled).toEqual([]);
  });

  test('a cancellation is accepted while Temporal does not answer, and left to the sweep', async () => {
    const id = await make('owner');
    const { body } = await run(starterOf(owner, id), id);
    isTemporalAway = true;
    const answer = await api.request('owner', 'POST', `/runs/${body.run_id}/cancel`).finally(() => (isTemporalAway = false));
    expect(answer.status).toBe(202);
    const { rows } = await postgres.db.query('select 1 from flow_runs where id = $1 and cancel_requested_at is not null', [
      body.run_id,
    ]);
    expect(rows).toHaveLength(1);
  });

  test('a failed run is resumed with the token of its flow, under the next generation', async () => {
    const id = await make('owner');
    const who = starterOf(owner, id);
    const { body } = await run(who, id);
    expect((await api.request(who, 'POST', `/runs/${body.run_id}/resume`)).body.error.code).toBe('STATE_CONFLICT');
    await end(body.run_id as string, 'FAILED');
    expect((await api.request('owner', 'POST', `/runs/${body.run_id}/resume`)).body.error.code).toBe('MISSING_SCOPE');
    const resumed = await api.request(who, 'POST', `/runs/${body.run_id}/resume`);
    expect(resumed.body).toMatchObject({ status: 'ACTIVE', completion_time: null });
    expect(started.at(-1)).toMatchObject({ runId: body.run_id, generation: 1 });
  });

  test('kinds of objects that the service has none of are empty lists', async () => {
    expect((await api.request('owner', 'GET', '/registered_apis')).body).toMatchObject({
      registered_apis: [],
      has_next_page: false,
    });
    expect((await api.request('owner', 'GET', '/web_inputs')).body).toEqual({ web_input_summaries: [], marker: null });
    const missing = await api.request('owner', 'POST', `/web_inputs/${randomUUID()}/respond`, { response: { value: 1 } });
    expect(missing.body.error.code).toBe('NOT_FOUND');
  });
});
