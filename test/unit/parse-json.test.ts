import { json, assert, asyncProperty, string } from 'fast-check';

import { parseJson } from '../../api/middleware/parse-json';

const LIMITS = { maxDepth: 100, maxStrings: 100_000, maxOthers: 100_000 };
const parse = (text: string, limits = {}): Promise<unknown> => parseJson(Buffer.from(text), { ...LIMITS, ...limits });

describe('JSON of requests', () => {
  test('any JSON text has the value that JSON.parse gives it', async () => {
    await assert(
      asyncProperty(json(), string(), async (text, space) => {
        expect(await parse(text)).toEqual(JSON.parse(text));
        const pretty = JSON.stringify([JSON.parse(text), space], null, 1);
        expect(await parse(pretty)).toEqual(JSON.parse(pretty));
      }),
    );
  });

  test.each([
    '',
    ' ',
    '{',
    '[1,]',
    '{"a"}',
    '{"a":1,}',
    '[1 2]',
    '"\n"',
    '"\\x"',
    '01',
    'nul',
    '[}',
    '{]',
    '1 1',
    '{"a":}',
    ']',
    '"a',
    '{1:2}',
  ])('text that JSON.parse refuses is refused: %j', async (text) => {
    expect(() => JSON.parse(text) as unknown).toThrow();
    await expect(parse(text)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });

  test('a key __proto__ is data', async () => {
    const value = (await parse('{"__proto__": {"isAdmin": true}}')) as { isAdmin?: boolean };
    expect(value.isAdmin).toBeUndefined();
    expect(Object.keys(value)).toEqual(['__proto__']);
  });

  test('text that is nested too deeply, or has too many values, is refused', async () => {
    await expect(parse('['.repeat(101))).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    expect(await parse(`${'['.repeat(100)}${']'.repeat(100)}`)).toHaveLength(1);
    await expect(parse('[{},{},{}]', { maxOthers: 3 })).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
    await expect(parse('["a","b","c"]', { maxStrings: 2 })).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
    expect(await parse('["a","b"]', { maxStrings: 2 })).toEqual(['a', 'b']);
  });

  test.each([
    ['many strings', JSON.stringify(Array.from({ length: 20_000 }, (_, index) => String(index)))],
    ['a string of escaped quotes', JSON.stringify('"\\'.repeat(100_000))],
    ['a string of backslashes', JSON.stringify(Array.from({ length: 1_000 }, () => '\\'.repeat(1_000)))],
  ])('other work proceeds while %s is parsed', async (_kind, text) => {
    let turns = 0;
    const count = (): void => {
      turns++;
      next = setImmediate(count);
    };
    let next = setImmediate(count);
    const value = await parseJson(Buffer.from(text), LIMITS, 0);
    clearImmediate(next);
    expect(JSON.stringify(value) === text).toBe(true);
    expect(turns).toBeGreaterThan(0);
  });
});
