import { readRunIdentity, readRunStart } from '../../platform/store/flow-run-inputs';
import { listRunLog, listRuns, RUN_ORDER } from '../../platform/store/flow-run-lists';
import {
  endOpenRun,
  isStillCancelled,
  listCancelledRuns,
  listUnstartedRuns,
  markRunStarted,
  noteCancelRequest,
  recordRun,
  reopenRun,
} from '../../platform/store/flow-run-progress';
import { findRun } from '../../platform/store/flow-runs';
import { findFlow, FLOW_ORDER, listFlows, updateFlow, type Caller } from '../../platform/store/flows';
import { removeExpired } from '../../platform/store/retention';
import { explain } from '../helpers/explain';
import { makeFlow, makeRun } from '../helpers/flow-fixture';
import { makeOwner } from '../helpers/store-fixture';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

const urn = (id: string): string => `urn:globus:auth:identity:${id}`;
const callerOf = (id: string): Caller => ({ id, urns: [urn(id)] });
const NEWEST = [{ ...FLOW_ORDER.created_at, descending: true }];
const entry = (code: string) => ({ time: new Date().toISOString(), code, description: code, details: { at: code } });

async function record(runId: string, update: Parameters<typeof recordRun>[2]): Promise<void> {
  const client = await postgres.db.connect();
  try {
    await recordRun(client, runId, update);
  } finally {
    client.release();
  }
}

describe('flows in the store', () => {
  test('a run that must be cancelled is listed from its start to its end, and costs nothing for the other runs', async () => {
    const { db } = postgres;
    const owner = await makeOwner(db);
    const flow = await makeFlow(db, owner);
    const run = await makeRun(db, flow, owner);
    const inTheFuture = new Date(Date.now() + 60_000);
    const isListed = async (): Promise<[boolean, boolean]> => [
      (await listUnstartedRuns(db, inTheFuture, 1_000)).some(({ runId }) => runId === run),
      (await listCancelledRuns(db, 1_000)).some(({ runId }) => runId === run),
    ];
    expect(await isListed()).toEqual([true, false]);
    await noteCancelRequest(db, run);
    expect(await isListed()).toEqual([true, false]);
    await markRunStarted(db, run, 0);
    expect(await isListed()).toEqual([false, true]);
    expect(await isStillCancelled(db, { runId: run, generation: 0 })).toBe(true);
    await endOpenRun(db, { runId: run }, { code: 'c', description: 'd', details: {} });
    expect(await isListed()).toEqual([false, false]);
    await reopenRun(db, run);
    await markRunStarted(db, run, 1);
    expect(await isListed()).toEqual([false, false]);
    await noteCancelRequest(db, run);
    expect(await isStillCancelled(db, { runId: run, generation: 0 })).toBe(false); // the first cancellation was for another run
    expect(await explain(db, (one) => listCancelledRuns(one, 1_000))).toContain('flow_runs_cancelled');
  });

  test('a run keeps the definition that it started with when its flow changes', async () => {
    const owner = await makeOwner(postgres.db);
    const flow = await makeFlow(postgres.db, owner);
    const run = await makeRun(postgres.db, flow, owner, { input: { _private: 1, n: 2 } });
    const changed = await updateFlow(postgres.db, { ...flow, title: 'b', definition: { StartAt: 'X', States: {} } }, true);
    expect(changed).toMatchObject({ version: 2, title: 'b', definition: { StartAt: 'X' } });
    const start = await readRunStart(postgres.db, run);
    expect(start).toMatchObject({
      runId: run,
      title: 'b',
      definition: flow.definition,
      input: { _private: 1, n: 2 },
      generation: 0,
    });
    expect(Object.keys((start?.definition as { States: object }).States)).toEqual(['B', 'A']); // the author's order
    expect((await findFlow(postgres.db, flow.id))?.updatedAt.getTime()).toBeGreaterThan(flow.updatedAt.getTime());
  });

  test('a list of flows holds what the caller may see, in pages without gaps in any order', async () => {
    const [owner, other] = [await makeOwner(postgres.db), await makeOwner(postgres.db)];
    for (let n = 0; n < 7; n++)
      await makeFlow(postgres.db, owner, { title: `flow ${n % 3}`, viewers: n < 2 ? [urn(other)] : [] });
    await makeFlow(postgres.db, other, { title: 'secret' });
    const order = [
      { ...FLOW_ORDER.title, descending: true },
      { ...FLOW_ORDER.created_at, descending: false },
    ];
    const titles: string[] = [];
    for (let marker: string | undefined; ;) {
      const rows = await listFlows(postgres.db, callerOf(owner), {}, order, { marker, limit: 2 });
      if (rows.length === 0) break;
      titles.push(...rows.map(({ title }) => title));
      marker = Buffer.from(JSON.stringify(rows.at(-1)?.pageKey)).toString('base64url');
    }
    expect(titles).toEqual(['flow 2', 'flow 2', 'flow 1', 'flow 1', 'flow 0', 'flow 0', 'flow 0']);
    const seen = await listFlows(postgres.db, callerOf(other), {}, NEWEST, { marker: undefined, limit: 20 });
    expect(seen.map(({ title }) => title)).toEqual(['secret', 'flow 1', 'flow 0']);
    const owned = { roles: ['flow_owner'] as const, text: 'SECRET' };
    expect(await listFlows(postgres.db, callerOf(other), owned, NEWEST, { marker: undefined, limit: 20 })).toHaveLength(1);
  });

  test('a run is listed for its owner, its monitors and the managers of its flow, and for nobody else', async () => {
    const [author, starter, monitor, stranger] = await Promise.all([1, 2, 3, 4].map(() => makeOwner(postgres.db)));
    const flow = await makeFlow(postgres.db, author ?? '');
    const run = await makeRun(postgres.db, flow, starter ?? '', { monitors: [urn(monitor ?? '')], label: 'mine' });
    const list = async (who: string | undefined, filter = {}) =>
      (
        await listRuns(postgres.db, callerOf(who ?? ''), filter, [{ ...RUN_ORDER.start_time, descending: true }], {
          marker: undefined,
          limit: 20,
        })
      ).map(({ id }) => id);
    expect(await list(author)).toEqual([run]);
    expect(await list(starter)).toEqual([run]);
    expect(await list(monitor)).toEqual([run]);
    expect(await list(stranger)).toEqual([]);
    expect(await list(author, { roles: ['run_owner'] })).toEqual([]);
    expect(await list(starter, { statuses: ['FAILED'] })).toEqual([]);
    expect(await list(starter, { started: [new Date(Date.now() - 60_000), undefined], label: 'MIN' })).toEqual([run]);
  });

  test('log entries are numbered in the order in which they were recorded', async () => {
    const owner = await makeOwner(postgres.db);
    const flow = await makeFlow(postgres.db, owner);
    const run = await makeRun(postgres.db, flow, owner, { shownInput: { n: 2 } });
    await Promise.all([
      record(run, { entries: [entry('a'), entry('b')] }),
      record(run, { entries: [entry('c')], details: { code: 'x' } }),
    ]);
    const log = await listRunLog(postgres.db, run, { after: undefined, limit: 10, reverse: false });
    expect(log.map(({ seq }) => seq)).toEqual([1, 2, 3, 4]);
    expect(log[0]).toMatchObject({ code: 'FlowStarted', details: { input: { n: 2 } } });
    const codes = log.map(({ code }) => code);
    expect(codes.indexOf('b')).toBe(codes.indexOf('a') + 1);
    const [last] = await listRunLog(postgres.db, run, { after: 4, limit: 1, reverse: true });
    expect(last?.seq).toBe(3);
  });

  test('a failed run can be opened again, once', async () => {
    const owner = await makeOwner(postgres.db);
    const run = await makeRun(postgres.db, await makeFlow(postgres.db, owner), owner);
    expect(await reopenRun(postgres.db, run)).toBeUndefined();
    await record(run, { status: 'FAILED', completionTime: new Date().toISOString(), entries: [entry('FlowFailed')] });
    expect(await reopenRun(postgres.db, run)).toBe(1);
    expect(await reopenRun(postgres.db, run)).toBeUndefined();
    expect(await readRunStart(postgres.db, run)).toMatchObject({ generation: 1 });
  });

  test('a run that lost its workflow is ended once, and only in the generation of that workflow', async () => {
    const owner = await makeOwner(postgres.db);
    const runId = await makeRun(postgres.db, await makeFlow(postgres.db, owner), owner);
    const end = { code: 'FlowFailed', description: 'gone', details: { error: 'States.Runtime', cause: 'gone' } };
    expect(await endOpenRun(postgres.db, { runId, generation: 1 }, end)).toBe(false);
    expect(await endOpenRun(postgres.db, { runId, generation: 0 }, end)).toBe(true);
    expect(await endOpenRun(postgres.db, { runId, generation: 0 }, end)).toBe(false);
    expect(await findRun(postgres.db, runId)).toMatchObject({ status: 'FAILED', details: { cause: 'gone' } });
    expect(await reopenRun(postgres.db, runId)).toBe(1);
    expect(await endOpenRun(postgres.db, { runId, generation: 0 }, end)).toBe(false);
    expect(await findRun(postgres.db, runId)).toMatchObject({ status: 'ACTIVE' });
  });

  test('runs past the retention time are removed with their logs, and open ones stay', async () => {
    const owner = await makeOwner(postgres.db);
    const flow = await makeFlow(postgres.db, owner);
    const [old, recent, open] = [
      await makeRun(postgres.db, flow, owner),
      await makeRun(postgres.db, flow, owner),
      await makeRun(postgres.db, flow, owner),
    ];
    const ended = (daysAgo: number) => new Date(Date.now() - daysAgo * 86_400_000).toISOString();
    await record(old, { status: 'SUCCEEDED', completionTime: ended(20), entries: [entry('FlowSucceeded')] });
    await record(recent, { status: 'FAILED', completionTime: ended(2), entries: [] });
    await postgres.db.query(`update flow_runs set started_at = now() - interval '30 days' where id = $1`, [open]);
    expect(await removeExpired(postgres.db, new Date(ended(14)))).toMatchObject({ flowRuns: 1 });
    expect(await findRun(postgres.db, old)).toBeUndefined();
    expect(await listRunLog(postgres.db, old, { after: undefined, limit: 10, reverse: false })).toEqual([]);
    for (const id of [recent, open]) expect(await findRun(postgres.db, id)).toBeDefined();
  });

  test('a run acts as its owner until that is revoked', async () => {
    const owner = await makeOwner(postgres.db);
    const run = await makeRun(postgres.db, await makeFlow(postgres.db, owner), owner);
    expect(await readRunIdentity(postgres.db, run)).toMatchObject({ id: owner });
    await postgres.db.query('update identities set revoked_at = now() where id = $1', [owner]);
    expect(await readRunIdentity(postgres.db, run)).toBeUndefined();
  });
});
