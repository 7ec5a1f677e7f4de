import { randomUUID } from 'node:crypto';

import { createAudit } from '../../api/audit';
import { createLogger } from '../../platform/log';
import { listAuditEntries } from '../../platform/store/audit';
import { insertDeadLetter, listDeadLetters } from '../../platform/store/dead-letters';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';

/** What strangers write and PostgreSQL cannot hold as it is. */

let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 60_000);
afterAll(() => postgres.stop(), 30_000);

const TEXTS = ['a \0 NUL', 'half of a pair \ud83d', 'the other half \ude00', String.raw`written out: \u0000`, '😀'];
const STORED = ['a \uFFFD NUL', 'half of a pair \uFFFD', 'the other half \uFFFD', String.raw`written out: \u0000`, '😀'];

test('an entry of the audit log with a NUL or half of a character keeps no other entry out of the store', async () => {
  const audit = createAudit(postgres.db, createLogger('audit', 'silent'), 90);
  const refuse = (objects: Record<string, string>): void =>
    audit.recordRefusal({ identity: undefined, action: 'PUT /runs/:id', address: null, code: 'FORBIDDEN', objects });
  for (const text of TEXTS) refuse({ id: text });
  refuse({ ['key \0']: 'value' });
  refuse({ id: 'harmless' });
  await audit.close();
  const entries = await listAuditEntries(postgres.db, { limit: 100 });
  expect(entries.map(({ objects }) => objects.id ?? objects['key \uFFFD']).sort()).toEqual(
    [...STORED, 'value', 'harmless'].sort(),
  );
});

test('an audit entry is stored once although old entries cannot be deleted', async () => {
  const db = Object.assign(Object.create(postgres.db) as typeof postgres.db, {
    query: (...args: Parameters<typeof postgres.db.query>) =>
      String(args[0]).startsWith('delete') ? Promise.reject(new Error('canceling statement')) : postgres.db.query(...args),
  });
  const audit = createAudit(db, createLogger('audit', 'silent'), 90);
  audit.recordRefusal({ identity: undefined, action: 'cleanup', address: null, code: 'FORBIDDEN' });
  await audit.flush();
  await audit.close();
  const entries = await listAuditEntries(postgres.db, { limit: 100 });
  expect(entries.filter(({ action }) => action === 'cleanup')).toHaveLength(1);
});

test('a dead letter whose headers have a NUL, half of a character or an escape that is written out is kept', async () => {
  const queue = `queue-${randomUUID()}`;
  for (const text of TEXTS) {
    const headers = { text, toJSON: text, nested: [{ [text]: text }] };
    await insertDeadLetter(postgres.db, { queue, routingKey: text, reason: text, body: Buffer.from('body'), headers });
  }
  const letters = await listDeadLetters(postgres.db, undefined, 100);
  expect(letters.map(({ reason }) => reason)).toEqual([...STORED].reverse());
  expect(letters.map(({ headers }) => headers)).toEqual(
    STORED.map((text) => ({ text, toJSON: text, nested: [{ [text]: text }] })).reverse(),
  );
});
