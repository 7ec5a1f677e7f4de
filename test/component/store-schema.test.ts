import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Client } from 'pg';

import { createLogger } from '../../platform/log';
import { storeAnswers } from '../../platform/store/answers';
import { openDatabase, type Database } from '../../platform/store/database';
import { migrate, readMigrations, requireVersion, UnsupportedDatabaseError } from '../../platform/store/migrations';
import { countDaysAhead, createPartitions, dropPartitions, partitionName } from '../../platform/store/partitions';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, frame, makeFixture, stateOf, submit } from '../helpers/store-fixture';

/** Migrations and partitions: what is applied, what is refused, and whom they keep waiting. */

const DAY_MS = 86_400_000;
const SQL_DIR = join(__dirname, '..', '..', 'platform', 'store', 'sql');
const SQL_FILES = readdirSync(SQL_DIR).filter((name) => name.endsWith('.sql'));

// Each waits for locks or timeouts, on a machine that may be busy.
jest.setTimeout(60_000);

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

/** A database of the test's own, without a schema. */
async function withDatabase(name: string, use: (db: Database) => Promise<void>): Promise<void> {
  await postgres.db.query(`create database ${name}`);
  const url = new URL(postgres.url);
  url.pathname = `/${name}`;
  const db = openDatabase(url.toString(), 4, createLogger(name, 'silent'));
  try {
    await use(db);
  } finally {
    await db.end();
  }
}

test('every migration file is applied, once, whoever else migrates at the same time', async () => {
  await withDatabase('fresh', async (db) => {
    await Promise.all([migrate(db, Date.now()), migrate(db, Date.now())]);
    await migrate(db, Date.now());
    const { rows } = await db.query<{ name: string }>('select name from schema_migrations order by name');
    expect(rows.map((row) => row.name)).toEqual(SQL_FILES.sort());
  });
});

test('a database of the version whose endpoint queues were task queues is migrated, and stores answers', async () => {
  await withDatabase('before_endpoint_queues', async (db) => {
    await db.query('create table schema_migrations (name text primary key, applied_at timestamptz not null default now())');
    for (const { name, sql } of readMigrations().filter((migration) => migration.name < '0006')) {
      await db.query(sql);
      await db.query('insert into schema_migrations (name) values ($1)', [name]);
    }
    await db.query(readFileSync(join(__dirname, '..', 'fixtures', 'functions-before-endpoint-queues.sql'), 'utf8'));

    await migrate(db, Date.now());
    const fixture = await makeFixture(db);
    const { taskIds } = await submit(db, fixture, 1);
    const [task] = await claim(db, fixture);
    const taskId = taskIds[0]!; // one was submitted
    expect(task?.id).toBe(taskId);
    await storeAnswers(db, [
      { taskId, endpointQueueId: fixture.endpointId, attempt: 1, state: 'succeeded', frame: frame(taskId) },
    ]);
    expect(await stateOf(db, taskId)).toBe('succeeded');
  });
});

test('a database of a newer version is used as long as no migration is marked incompatible', async () => {
  await withDatabase('newer', async (db) => {
    await migrate(db, Date.now());
    await db.query(`insert into schema_migrations (name) values ('9998-harmless.sql')`);
    await db.query(
      `create or replace function is_open(p_task_state text) returns boolean language sql immutable as 'select true'`,
    );
    await migrate(db, Date.now());
    // The newer version's functions stay: its replicas may be running.
    expect((await db.query(`select is_open('succeeded') as open`)).rows).toEqual([{ open: true }]);

    await db.query(`insert into schema_migrations (name, incompatible) values ('9999-other.sql', 'tasks have another form')`);
    const refusal = migrate(db, Date.now());
    await expect(refusal).rejects.toThrow(UnsupportedDatabaseError);
    await expect(refusal).rejects.toThrow(/newer version .*9999-other.sql: tasks have another form.*Start the newer version/);
  });
});

test('the first line of a migration says whether earlier versions can work after it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'funcx-migrations-'));
  writeFileSync(join(folder, '0001-one.sql'), '-- incompatible: ids are longer\nselect 1;\n');
  writeFileSync(join(folder, '0002-two.sql'), '-- Adds a table.\nselect 1;\n');
  expect(readMigrations(folder).map(({ name, incompatible }) => ({ name, incompatible }))).toEqual([
    { name: '0001-one.sql', incompatible: 'ids are longer' },
    { name: '0002-two.sql', incompatible: null },
  ]);
  rmSync(folder, { recursive: true });
});

test.each([
  [140_011, '14.11', false],
  [150_000, '15.0', true],
  [180_001, '18.1', true],
])('a server with version number %d is PostgreSQL %s, and usable: %s', async (number, text, isUsable) => {
  const client = { query: async () => ({ rows: [{ number, text }] }) } as unknown as Client;
  const required = requireVersion(client);
  if (isUsable) return expect(required).resolves.toBeUndefined();
  await expect(required).rejects.toThrow(UnsupportedDatabaseError);
  await expect(required).rejects.toThrow(`The database server is PostgreSQL ${text}. Upgrade it to version 15 or newer.`);
});

test('the version of this server is read', async () => {
  const client = await postgres.db.connect();
  try {
    await requireVersion(client);
  } finally {
    client.release();
  }
});

/** A transaction that holds its locks until the test is done. */
async function holding(statement: string, use: () => Promise<void>): Promise<void> {
  const client = await postgres.db.connect();
  try {
    await client.query('begin');
    await client.query(statement);
    await use();
  } finally {
    await client.query('rollback');
    client.release();
  }
}

test('a migration that waits behind a reader gives up soon, so that submits do not wait behind the migration', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'funcx-migrations-'));
  for (const name of SQL_FILES) cpSync(join(SQL_DIR, name), join(folder, name));
  writeFileSync(join(folder, '9000-next.sql'), '-- Adds a column.\nalter table tasks add column next integer;\n');
  const fixture = await makeFixture(postgres.db);
  await holding('select count(*) from tasks', async () => {
    await expect(migrate(postgres.db, Date.now(), folder)).rejects.toMatchObject({ code: '55P03' });
    await submit(postgres.db, fixture, 3);
  });
  await migrate(postgres.db, Date.now(), folder);
  await submit(postgres.db, fixture, 3);
  await postgres.db.query(`alter table tasks drop column next; delete from schema_migrations where name = '9000-next.sql'`);
  rmSync(folder, { recursive: true });
});

test('a reader of all tasks keeps neither new partitions nor submits waiting', async () => {
  const fixture = await makeFixture(postgres.db);
  const later = Date.now() + 20 * DAY_MS;
  await holding('select count(*) from tasks', async () => {
    const [missing] = await Promise.all([createPartitions(postgres.db, later), submit(postgres.db, fixture, 3)]);
    expect(missing).toEqual([]);
  });
  expect(await countDaysAhead(postgres.db, later)).toBe(3);
  await submit(postgres.db, fixture, 3, { nowMs: later });
});

test('a schema change in progress delays new partitions of its table only, and no submit', async () => {
  const fixture = await makeFixture(postgres.db);
  const later = Date.now() + 40 * DAY_MS;
  await holding('lock table payloads in share update exclusive mode', async () => {
    const [missing] = await Promise.all([createPartitions(postgres.db, later), submit(postgres.db, fixture, 3)]);
    expect(missing).toContain(partitionName('payloads', later));
    expect(missing).not.toContain(partitionName('tasks', later));
  });
  expect(await countDaysAhead(postgres.db, later)).toBe(-1);
  expect(await createPartitions(postgres.db, later)).toEqual([]);
  expect(await countDaysAhead(postgres.db, later)).toBe(3);
});

test('partitions that are being read are dropped later, and nobody waits for that', async () => {
  const fixture = await makeFixture(postgres.db);
  const day = Date.now() + 60 * DAY_MS;
  await createPartitions(postgres.db, day);
  const suffix = partitionName('tasks', day).slice('tasks_'.length);
  await holding(`select count(*) from results_${suffix}`, async () => {
    const [isDropped] = await Promise.all([dropPartitions(postgres.db, suffix), submit(postgres.db, fixture, 3)]);
    expect(isDropped).toBe(false);
    await submit(postgres.db, fixture, 3);
  });
  expect(await dropPartitions(postgres.db, suffix)).toBe(true);
  const { rows } = await postgres.db.query(`select relname from pg_class where relname like '%\\_${suffix}'`);
  expect(rows).toEqual([]);
});
