import { createReferences } from '../../activities/flow-references';
import { NeedsReference } from '../../flows';
import { evaluate } from '../../flows/expression/evaluate';
import { parseExpression } from '../../flows/expression/parse';
import type { Database } from '../../platform/store/database';
import { until } from '../helpers/until';

/** Large results that expressions of one step read, from a store of texts. */

function storeOf(texts: Record<string, string>): { db: Database; reads: string[] } {
  const reads: string[] = [];
  const query = async (sql: string, [given]: [string[] | string]): Promise<{ rows: unknown[] }> => {
    if (sql.includes('octet_length')) return { rows: (given as string[]).map((id) => ({ id, bytes: texts[id]?.length })) };
    reads.push(given as string);
    return { rows: [{ data: `11\n${texts[given as string]}` }] };
  };
  return { db: { query } as unknown as Database, reads };
}

const MB = 1024 * 1024;
const refs = (ids: string[]): { $funcx: 'ref'; taskId: string; size: number; hash: string }[] =>
  ids.map((taskId) => ({ $funcx: 'ref', taskId, size: 1, hash: 'x' }));

/** As `advance` does it. */
async function run(db: Database, ids: string[]): Promise<unknown> {
  const loaded = createReferences(db).open('owner');
  try {
    for (;;) {
      try {
        return evaluate(parseExpression('[r[0] == 1 for r in refs]'), { data: { refs: refs(ids) }, context: {}, loaded });
      } catch (error) {
        if (!(error instanceof NeedsReference)) return error;
        await loaded.load(error.taskId, 0);
      }
    }
  } finally {
    loaded.release();
  }
}

test('the values of all results that a step reads have a limit together', async () => {
  const text = `[${'[],'.repeat(MB)}1]`;
  const ids = Array.from({ length: 40 }, (_, n) => `t${n}`);
  const { db, reads } = storeOf(Object.fromEntries(ids.map((id) => [id, text])));
  expect(await run(db, ids)).toMatchObject({ error: 'States.DataLimitExceeded' });
  expect(reads.length).toBeLessThan(6);
});

test('the bytes of all results that a step reads have a limit together, before they are read', async () => {
  const text = `["${'x'.repeat(30 * MB)}"]`;
  const { db, reads } = storeOf({ a: text, b: text, c: text, d: text, e: text });
  expect(await run(db, ['a', 'b', 'c', 'd', 'e'])).toMatchObject({ error: 'States.DataLimitExceeded' });
  expect(reads.length).toBe(4);
});

test('results of honest size are read, and commas in texts are not values', async () => {
  const commas = `["${',['.repeat(4 * MB)}\\"", 2]`;
  const numbers = `[${'1234567,'.repeat(MB)}1]`;
  const { db } = storeOf({ commas, numbers, one: '[1]' });
  expect(await run(db, ['commas', 'numbers', 'one'])).toEqual([false, false, true]);
});

test('a step that has read much says so, and owners take turns', async () => {
  const { db } = storeOf({ a: `["${'x'.repeat(5 * MB)}"]`, small: '[1]' });
  const references = createReferences(db);
  const first = references.open('one');
  await first.load('small', 0);
  expect(first.isLarge).toBe(false);
  await first.load('a', 0);
  expect(first.isLarge).toBe(true);

  const order: string[] = [];
  const steps = ['one', 'one', 'one', 'one', 'two'].map((owner) => ({ owner, step: references.open(owner) }));
  const waiting = steps.map(async ({ owner, step }) => {
    await step.load('a', 0);
    order.push(owner);
    step.release();
  });
  // A fifth step of the owner is refused at once, to be tried again later.
  await until('four steps of the owner wait', async () =>
    references
      .open('one')
      .load('a', 0)
      .then(
        () => false,
        (error: Error) => error.message.includes('tried again'),
      ),
  );
  first.release();
  await Promise.all(waiting);
  expect(order.indexOf('two')).toBeLessThanOrEqual(1);
});

test('one step at a time holds large results', async () => {
  const { db } = storeOf({ a: `["${'x'.repeat(5 * MB)}"]`, small: '[1]' });
  const references = createReferences(db);
  const [first, second, third] = [references.open('o'), references.open('o'), references.open('o')];
  await first.load('a', 0);
  let isLoaded = false;
  const waiting = second.load('a', 0).then(() => (isLoaded = true));
  await third.load('small', 0);
  expect([third.get('small'), isLoaded]).toEqual([[1], false]);
  first.release();
  await waiting;
  second.release();
});
