import { createHash, randomUUID } from 'node:crypto';

import type { FetchedBody } from '../../endpoint/bodies';
import { FunctionCodes } from '../../endpoint/function-codes';

/** Fetches that the test answers. */
function start(keptBytes?: number) {
  const fetches: { path: string; answer: (text: string | Error | undefined) => void }[] = [];
  const bodies = {
    fetch: ({ path }: { path: string }) =>
      new Promise<FetchedBody | undefined>((resolve, reject) => {
        fetches.push({
          path,
          answer: (text) => {
            if (text instanceof Error) reject(text);
            else resolve(text === undefined ? undefined : { text, release: () => undefined });
          },
        });
      }),
  };
  const codes = new FunctionCodes(bodies, keptBytes);
  const textOf = async (code: string, payload: string, isWanted = () => true): Promise<string | undefined> => {
    const data = {
      task_id: randomUUID(),
      task_buffer: payload,
      claim: { path: payload, token: 'token' },
      code_hash: createHash('sha256').update(code).digest('hex'),
    };
    return (await codes.bodyOf(data, isWanted))?.text;
  };
  return { fetches, codes, textOf };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('code is fetched once, however many tasks need it at the same time and later', async () => {
  const { fetches, textOf } = start();
  const texts = ['a', 'b', 'c'].map((payload) => textOf('code ü', payload));
  await turn();
  expect(fetches.map(({ path }) => path)).toEqual(['a']);
  fetches[0]?.answer('code üa');
  expect(await Promise.all(texts)).toEqual(['code üa', 'code üb', 'code üc']);
  expect(await textOf('code ü', 'd')).toBe('code üd');
  expect(fetches).toHaveLength(1);
});

test('when a fetch fails, its task fails, and the next task fetches', async () => {
  const { fetches, textOf } = start();
  const first = textOf('code', 'a');
  const second = textOf('code', 'b');
  const unwanted = textOf('code', 'c', () => false);
  await turn();
  fetches[0]?.answer(new Error('gone'));
  await expect(first).rejects.toThrow('gone');
  await turn();
  expect(fetches.map(({ path }) => path)).toEqual(['a', 'b']);
  fetches[1]?.answer('codeb');
  expect([await second, await unwanted]).toEqual(['codeb', undefined]);
});

test('a body with other code is run and not kept', async () => {
  const { fetches, textOf } = start();
  const first = textOf('code', 'a');
  await turn();
  fetches[0]?.answer('other a');
  expect(await first).toBe('other a');
  void textOf('code', 'b');
  await turn();
  expect(fetches).toHaveLength(2);
});

test('the code that was used least recently goes first', async () => {
  const { fetches, textOf } = start(10);
  for (const code of ['first', 'secon']) {
    const text = textOf(code, 'a');
    await turn();
    fetches.at(-1)?.answer(`${code}a`);
    await text;
  }
  await textOf('first', 'b');
  const third = textOf('third', 'a');
  await turn();
  fetches.at(-1)?.answer('thirda');
  await third;
  await textOf('first', 'c');
  expect(fetches).toHaveLength(3);
  void textOf('secon', 'b');
  await turn();
  expect(fetches).toHaveLength(4);
});

test('without a hash the whole body is fetched, and without a reference there is nothing to fetch', async () => {
  const { fetches, codes } = start();
  const whole = codes.bodyOf({ task_id: randomUUID(), task_buffer: '', claim: { path: 'p', token: 't' } }, () => true);
  fetches[0]?.answer('whole');
  expect((await whole)?.text).toBe('whole');
  expect((await codes.bodyOf({ task_id: randomUUID(), task_buffer: 'inline' }, () => true))?.text).toBe('inline');
  expect(fetches).toHaveLength(1);
});
