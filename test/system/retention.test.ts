import { lowestIdAt } from '../../contracts/ids';
import { openDatabase } from '../../platform/store/database';
import { PARTITIONED, partitionName } from '../../platform/store/partitions';
import { storeAnswers } from '../../platform/store/answers';
import { createLogger } from '../../platform/log';
import { frame, submit } from '../helpers/store-fixture';
import { admin, Http, killAndWait, localEndpoint, serviceEnv } from '../helpers/system';
import { until } from '../helpers/until';

/** A task past its retention time: removed by the service itself, and the answer says until when it was kept. */

const DAY_MS = 86_400_000;
const AGE_DAYS = 20;
/** The default that the tests' system runs with. */
const RETENTION_DAYS = 14;

const http = new Http();

test('a task past its retention time is removed by the service and then answers 410 with the date', async () => {
  // Nobody can wait for weeks: the rows of a task that was accepted and answered long ago are written by the store's own code.
  const acceptedMs = Math.floor(Date.now() / DAY_MS) * DAY_MS - AGE_DAYS * DAY_MS + DAY_MS / 2;
  const db = openDatabase(serviceEnv('api').DATABASE_URL ?? '', 2, createLogger('test', 'silent'));
  const day = Math.floor(acceptedMs / DAY_MS) * DAY_MS;
  for (const table of PARTITIONED) {
    await db.query(
      `create table if not exists ${partitionName(table, day)} partition of ${table}
         for values from ('${lowestIdAt(day)}') to ('${lowestIdAt(day + DAY_MS)}')`,
    );
  }
  const functionId = await http.register('kept', 'def kept():\n    return 1');
  const target = { ownerId: admin().client_id, endpointId: localEndpoint(), functionId };
  const { taskIds, submissionId } = await submit(db, target, 2, { nowMs: acceptedMs });
  const [old = '', late = ''] = taskIds;
  const accepted = new Date(acceptedMs);
  await db.query('update submissions set created_at = $2, started_at = $2 where id = $1', [submissionId, accepted]);
  await storeAnswers(
    db,
    taskIds.map((taskId) => ({ taskId, state: 'cancelled', frame: frame(taskId) })),
  );
  await db.query('update tasks set answered_at = $2 where id = $1', [old, new Date(acceptedMs + 60_000)]);
  await db.end();
  expect(await http.request('GET', `/v1/tasks/${old}`)).toMatchObject({ status: 200 });

  await killAndWait('workers'); // the first thing that new ones do is to remove what is past its time
  const gone = await until('it is gone', async () => {
    const reply = await http.request('GET', `/v1/tasks/${old}`);
    return reply.status === 200 ? undefined : reply;
  });
  const date = new Date(acceptedMs + RETENTION_DAYS * DAY_MS).toISOString().slice(0, 10);
  expect(gone).toMatchObject({ status: 410, body: { code: 'EXPIRED' } });
  expect(JSON.stringify(gone.body)).toContain(`was deleted on ${date}, after its retention time`);
  expect(await http.request('GET', `/v2/tasks/${old}`)).toMatchObject({ status: 410, body: { code: 'EXPIRED' } });
  // Its neighbour was accepted in the same moment, and answered just now.
  expect(await http.request('GET', `/v1/tasks/${late}`)).toMatchObject({ status: 200 });
});
