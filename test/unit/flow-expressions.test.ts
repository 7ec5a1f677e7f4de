import { execFileSync } from 'node:child_process';

import fc from 'fast-check';

import { evaluate } from '../../flows/expression/evaluate';
import { parseExpression } from '../../flows/expression/parse';
import { NeedsReference } from '../../flows/errors';
import type { Json } from '../../flows/values';

/** Python itself is the reference: an expression has the value that `eval` gives, or fails where Python raises. */

const FAILED = Symbol('failed');
const STATE: Json = {
  a: 7,
  b: -3,
  zero: 0,
  x: 2.5,
  yes: true,
  no: false,
  none: null,
  s: 'hello world',
  t: '/foo/bar/blech.txt',
  u: 'añ😀z',
  list: [3, 1, 2],
  words: ['b', 'a', 'c'],
  nested: { k: [{ v: 1 }, { v: 2 }], name: 'n' },
  empty: [],
};

function ours(text: string, data: Json = STATE): Json | typeof FAILED {
  try {
    return evaluate(parseExpression(text), { data, context: {}, loaded: new Map() });
  } catch (error) {
    if (error instanceof Error && ['FlowError', 'ExpressionSyntaxError'].includes(error.name)) return FAILED;
    throw error;
  }
}

const PYTHON = `
import json, sys
class Obj(dict):
    def __getattr__(self, name):
        try: return self[name]
        except KeyError: raise AttributeError(name)
given = json.load(sys.stdin)
def wrap(v):
    if isinstance(v, dict): return Obj({k: wrap(x) for k, x in v.items()})
    if isinstance(v, list): return [wrap(x) for x in v]
    return v
def unwrap(v):
    if isinstance(v, (list, tuple)): return [unwrap(x) for x in v]
    if isinstance(v, dict):
        if not all(isinstance(k, str) for k in v): raise TypeError("keys")
        return {k: unwrap(x) for k, x in v.items()}
    if isinstance(v, bool) or v is None or isinstance(v, str): return v
    if isinstance(v, (int, float)):
        if v != v or abs(v) > 1.7e308 or isinstance(v, complex): raise OverflowError
        if isinstance(v, int) and abs(v) > 2**53: return float(v)
        return v
    raise TypeError(type(v))
def whole(value, digits=0):
    # JSON has no 2.0 beside 2.
    value = round(value, digits)
    return int(value) if value == int(value) else value
out = []
for text in given["texts"]:
    try: out.append([unwrap(eval(text, {"__builtins__": __builtins__, "round": whole, **wrap(given["state"])}))])
    except Exception: out.append(None)
json.dump(out, sys.stdout)
`;

function python(texts: readonly string[]): (Json | typeof FAILED)[] {
  const out = execFileSync('python3', ['-W', 'ignore', '-c', PYTHON], {
    input: JSON.stringify({ texts, state: STATE }),
    maxBuffer: 64 * 1024 * 1024,
  });
  return (JSON.parse(out.toString()) as ([Json] | null)[]).map((one) => (one ? one[0] : FAILED));
}

const close = (a: unknown, b: unknown): boolean => {
  if (typeof a === 'number' && typeof b === 'number') return a === b || Math.abs(a - b) <= Math.abs(a) * 1e-12;
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((one, at) => close(one, b[at]));
  if (typeof a === 'object' && typeof b === 'object' && a && b) {
    return close(Object.entries(a), Object.entries(b));
  }
  return a === b;
};

const numbers = fc.oneof(
  fc.constantFrom('a', 'b', 'zero', 'yes', 'no'),
  fc.integer({ min: -20, max: 20 }).map((n) => (n < 0 ? `(${n})` : `${n}`)),
);
const { expression } = fc.letrec<Record<'expression' | 'number' | 'text' | 'list' | 'truth', string>>((tie) => ({
  number: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    numbers,
    fc.tuple(tie('number'), fc.constantFrom('+', '-', '*', '//', '%'), tie('number')).map(([l, op, r]) => `${l} ${op} ${r}`),
    fc.tuple(tie('number'), fc.constantFrom('+', '*', '//', '%'), tie('number')).map(([l, op, r]) => `(${l} ${op} ${r})`),
    tie('number').map((n) => `-${n}`),
    fc.tuple(numbers, fc.integer({ min: 0, max: 4 })).map(([n, p]) => `-${n} ** ${p}`),
    tie('list').map((l) => `len(${l})`),
    tie('text').map((t) => `len(${t})`),
    fc.tuple(tie('list'), fc.integer({ min: -4, max: 4 })).map(([l, i]) => `${l}[${i}]`),
    tie('list').map((l) => `sum(${l})`),
    fc.tuple(fc.constantFrom('min', 'max'), tie('list')).map(([f, l]) => `${f}(${l})`),
    fc.tuple(tie('text'), tie('text')).map(([t, p]) => `(${t}).find(${p})`),
    fc.tuple(fc.integer({ min: -4000, max: 4000 }), fc.integer({ min: -2, max: 3 })).map(([n, d]) => `round(${n} / 8, ${d})`),
    fc.constantFrom('nested.k[1].v', "nested['k'][0]['v']", 'nested.k[-1].v', 'nested.gone', 'int("12")', 'int(x)', 'abs(b)'),
  ),
  text: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom('s', 't', 'u', '"o"', "'l' 'l'", "r'\\n'", "''", "'\\u00e9'", '"""tri"""'),
    fc.tuple(tie('text'), tie('text')).map(([l, r]) => `${l} + ${r}`),
    fc
      .tuple(
        fc.constantFrom('s', 't', 'u'),
        fc.integer({ min: -5, max: 5 }),
        fc.integer({ min: -5, max: 20 }),
        fc.constantFrom('', ':2', ':-1'),
      )
      .map(([t, i, j, k]) => `${t}[${i}:${j}${k}]`),
    fc
      .tuple(
        tie('text'),
        fc.constantFrom(
          '.upper()',
          '.strip("he")',
          '.rstrip("dlt")',
          '.replace("l", "LL")',
          '.lstrip()',
          '.zfill(14)',
          ".removeprefix('/')",
          ".removesuffix('txt')",
          '.rpartition("/")[0]',
          '.partition("o")[2]',
          '[0]',
          '.lower()',
        ),
      )
      .map(([t, m]) => `(${t})${m}`),
    tie('expression').map((e) => `str(${e})`),
    fc
      .tuple(
        fc.constantFrom('"-"', '""'),
        fc.constantFrom('words', 'sorted(words)', 's.split()', "t.rsplit('/', 1)", "s.split('o', 1)"),
      )
      .map(([j, l]) => `${j}.join(${l})`),
    fc.tuple(tie('text'), fc.integer({ min: -1, max: 3 })).map(([t, n]) => `(${t}) * ${n}`),
  ),
  list: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom('list', 'words', 'empty', 'nested.k'),
    fc.array(tie('expression'), { maxLength: 3 }).map((items) => `[${items.join(', ')}]`),
    fc.tuple(tie('list'), tie('list')).map(([l, r]) => `(${l} + ${r})`),
    fc.tuple(tie('number'), tie('list'), tie('truth')).map(([n, l, c]) => `[i * 2 + ${n} for i in ${l} if ${c}]`),
    fc.tuple(tie('list'), tie('list')).map(([l, r]) => `[[i, j] for i in ${l} for j in ${r} if i != j]`),
    tie('list').map((l) => `sorted(${l})`),
    tie('list').map((l) => `sorted(${l}, reverse=True)`),
    fc.tuple(fc.constantFrom('list', 'words'), fc.integer({ min: -4, max: 4 })).map(([l, i]) => `${l}[${i}:]`),
    fc.tuple(fc.constantFrom('list', 'words'), fc.integer({ min: -3, max: 3 })).map(([l, i]) => `${l}[::${i}]`),
  ),
  truth: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom('yes', 'no', 'True', 'False'),
    fc
      .tuple(
        tie('number'),
        fc.constantFrom('<', '<=', '==', '!=', '>', '>='),
        tie('number'),
        fc.constantFrom('', ' < 5', ' != a'),
      )
      .map((p) => `${p[0]} ${p[1]} ${p[2]}${p[3]}`),
    fc.tuple(tie('text'), fc.constantFrom('<', '==', 'in', 'not in'), tie('text')).map(([l, op, r]) => `${l} ${op} ${r}`),
    fc.tuple(tie('expression'), fc.constantFrom('in', 'not in'), tie('list')).map(([e, op, l]) => `${e} ${op} ${l}`),
    tie('truth').map((t) => `not ${t}`),
    fc.tuple(tie('expression'), fc.constantFrom('and', 'or'), tie('expression')).map(([l, op, r]) => `${l} ${op} ${r}`),
    fc.tuple(fc.constantFrom('any', 'all'), tie('list')).map(([f, l]) => `${f}(${l})`),
    fc.tuple(tie('text'), tie('text')).map(([t, p]) => `(${t}).endswith(${p})`),
  ),
  expression: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    tie('number'),
    tie('text'),
    tie('list'),
    tie('truth'),
    fc.constant('none'),
    fc.tuple(tie('expression'), tie('truth'), tie('expression')).map(([e, c, o]) => `(${e} if ${c} else ${o})`),
    fc.tuple(tie('expression'), tie('expression')).map(([e, o]) => `{'k': ${e}, 'l': ${o}}`),
  ),
}));

test('2,000 random expressions have the value that Python gives them', () => {
  const texts = fc.sample(expression, { numRuns: 2_000, seed: 18 }).filter((text) => text.length < 2_000);
  expect(texts.length).toBeGreaterThan(1_900);
  const expected = python(texts);
  const wrong = texts.flatMap((text, at) => {
    const value = ours(text);
    return close(value, expected[at]) ? [] : [{ text, value, python: expected[at] }];
  });
  // Both sides fail for some; most must have a value, or the comparison says little.
  expect(expected.filter((one) => one !== FAILED).length).toBeGreaterThan(900);
  expect(wrong.slice(0, 10)).toEqual([]);
});

test.each([0, 0xa0, 0xad, 0x300, 0x378, 0x200b, 0x2028, 0x3000, 0xd800, 0xe000, 0xfeff, 0x1f600, 0xe0001, 0x10ffff])(
  'the character with the code %i is shown in a list as Python shows it',
  (code) => {
    const text = `str(["${String.raw`\U`}${code.toString(16).padStart(8, '0')}"])`;
    expect([ours(text)]).toEqual(python([text]));
  },
);

test.each([
  ["pathsplit('/foo/bar/blech')", ['/foo/bar', 'blech']],
  ["pathsplit('/~/data')", ['/~/', 'data']],
  ["is_present('nested.k[0].v')", true],
  ["is_present('nested.gone')", false],
  ["getattr('nested.gone', default=[])", []],
  ["getattr('nested.name')", 'n'],
  ['`$.nested.k[1].v` + 1', 3],
  ["`$.nested['k'][0]`", { v: 1 }],
  ['not a == 7 and yes', false],
  ['-2 ** 2', -4],
  ['1 < 2 < 3', true],
  ['(1 < 2) + 1', 2],
])('%s is what the specification says', (text, value) => {
  expect(ours(text)).toEqual(value);
});

test.each(
  [
    ['lambda x: x', 'is not expected here'],
    ["__import__('os')", 'there is no function __import__'],
    ['s.__class__.__name__()', 'there is no method __name__'],
    ['a is None', 'compare with =='],
    ['(1, 2)', 'write a list'],
    ['{1, 2}', 'sets are not available'],
    ["f'{a}'", 'strings with b or f'],
    ['a = 3', 'no assignment'],
    ['', 'a value is missing'],
    ['a +', 'a value is missing at the end'],
    ["'open", 'not closed'],
    ['len()', 'takes 1 arguments, not 0'],
    ['`a.b`', 'begins with $'],
    [`${'('.repeat(500)}1${')'.repeat(500)}`, 'more than 100 deep'],
    [`${'1+'.repeat(500)}1`, 'more than 100 deep'],
    [`${'not '.repeat(500)}a`, 'more than 100 deep'],
  ].map(([text = '', message = '']) => [text.slice(0, 30), text, message] as const),
)('the expression %j is refused with a sentence about it', (_start, text, message) => {
  expect(() => parseExpression(text)).toThrow(message);
});

test.each([
  ['[0] * 1000000000'],
  ["'ab' * 10 ** 9"],
  ['[[i, j, k, l, m] for i in big for j in big for k in big for l in big for m in big]'],
  ["'x'.zfill(10 ** 9)"],
  ["('a' * 100000).replace('', 'b' * 100000)"],
  ["'a'.join(['b' * 1000000] * 1000)"],
  ['[[0] * 1000000 for i in big]'],
])('%s is stopped by a bound', (text) => {
  const started = Date.now();
  expect(() =>
    evaluate(parseExpression(text), { data: { big: Array.from({ length: 100 }, (_, n) => n) }, context: {}, loaded: new Map() }),
  ).toThrow(/more than \d+ (?:operations|characters)/);
  expect(Date.now() - started).toBeLessThan(5_000);
});

test('a value that rests in the store is loaded only when something looks into it', () => {
  const big = { $funcx: 'ref', taskId: 'one', size: 5, hash: 'x' };
  const scope = { data: { big }, context: {}, loaded: new Map<string, Json>() };
  expect(evaluate(parseExpression('[big]'), scope)).toEqual([big]);
  expect(() => evaluate(parseExpression('len(big)'), scope)).toThrow(NeedsReference);
  expect(evaluate(parseExpression('len(big)'), { ...scope, loaded: new Map([['one', [1, 2]]]) })).toBe(2);
});

/** Long strings that a state can hold, in forms that are slow to compare, to search or to read. */
const LONG = 200_000;
const slow = {
  many: Array<number>(30_000).fill(0),
  s: `${'a'.repeat(LONG)}\u{1f600}x`,
  t: `${'a'.repeat(LONG)}\u{1f600}y`,
  text: 'a'.repeat(LONG),
  part: `b${'a'.repeat(LONG / 2)}`,
  end: `${'a'.repeat(LONG / 2)}b`,
  words: 'a '.repeat(LONG / 2),
  digits: `${'1'.repeat(LONG)}x`,
  keys: Object.fromEntries(Array.from({ length: 20_000 }, (_, n) => [`k${n}`, n])),
};

test.each([
  'len([0 for x in many if s < t])',
  'len([0 for x in many if s == t])',
  'len([0 for x in many if part in text])',
  'len([0 for x in many if s[0] == 1])',
  'len([0 for x in many if len(s) == 1])',
  'len([0 for x in many if keys])',
  'len([0 for x in many if len(keys) == 1])',
  'len([0 for x in many if [1 for c in keys if c == 1]])',
  'part in text',
  'text.find(part)',
  'text.rfind(end)',
  'text.count(part)',
  'text.split(part)',
  'text.replace(part, end)',
  'words.split()',
  'words.rsplit()',
  'float(digits)',
])('%s with long strings ends soon', (expression) => {
  const startedMs = Date.now();
  try {
    evaluate(parseExpression(expression), { data: slow, context: {}, loaded: new Map() });
  } catch (error) {
    expect((error as { error?: string }).error).toBe('States.IntrinsicFailure');
  }
  expect(Date.now() - startedMs).toBeLessThan(5_000);
});

test('long parts are found where short ones are', () => {
  const part = 'ab'.repeat(20);
  for (const text of ['', part, `x${part}`, `${part}ab`, `${part}x${part}`, `aab${part.slice(1)}`, part.slice(1)]) {
    const value = (expression: string): Json =>
      evaluate(parseExpression(expression), { data: { text, part }, context: {}, loaded: new Map() });
    expect(value('text.find(part)')).toBe(text.indexOf(part));
    expect(value('text.rfind(part)')).toBe(text.lastIndexOf(part));
    expect(value('text.split(part)')).toEqual(text.split(part));
    expect(value('part in text')).toBe(text.includes(part));
  }
});

test('texts are ordered by code points, also after a half character', () => {
  const texts = [
    '',
    'a',
    '\ud800',
    '\ud83d',
    '\ud83d\ue000',
    '\u{1f600}',
    '\u{1f601}',
    '\ue000',
    '\uffff',
    'a\u{1f600}',
    'a\uffff',
  ];
  const points = (text: string): number[] => [...text].map((char) => char.codePointAt(0)!);
  const less = (a: number[], b: number[]): boolean => {
    const at = a.findIndex((point, place) => point !== b[place]);
    return at < 0 ? a.length < b.length : b[at] !== undefined && a[at]! < b[at];
  };
  for (const a of texts)
    for (const b of texts)
      expect([a, b, evaluate(parseExpression('a < b'), { data: { a, b }, context: {}, loaded: new Map() })]).toEqual([
        a,
        b,
        less(points(a), points(b)),
      ]);
});
