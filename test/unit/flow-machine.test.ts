import fc from 'fast-check';

import { FlowError } from '../../flows';
import { COMPARISONS } from '../../flows/choice';
import type { Definition } from '../../flows/definition';
import { caught, enter, stateOf } from '../../flows/machine';
import type { Json, JsonObject } from '../../flows/values';
import { validateDefinition } from '../../flows';

/** Definitions without actions, run by the machine and by a plain reading of the specification beside it. */

const MAX_STEPS = 60;
type End = { kind: 'done' | 'going'; data: Json } | { kind: 'failed'; error: string };

function ours(definition: Definition, input: JsonObject): End {
  let data: Json = input;
  let name = definition.StartAt;
  for (let n = 0; n < MAX_STEPS; n++) {
    const state = stateOf(definition, name);
    try {
      const entered = enter(state, { data, context: {}, loaded: new Map() }, 0, []);
      if (entered.kind === 'failed') return { kind: 'failed', error: entered.error };
      if (entered.kind === 'wait') {
        if (state.End) return { kind: 'done', data };
        name = state.Next ?? '';
      } else if (entered.kind === 'moved') {
        data = entered.data;
        if (entered.next === undefined) return { kind: 'done', data };
        name = entered.next;
      } else throw new Error(`unexpected ${entered.kind}`);
    } catch (error) {
      if (error instanceof FlowError) return { kind: 'failed', error: error.error };
      throw error;
    }
  }
  return { kind: 'going', data };
}

type Plain = { Type: string; [key: string]: any }; // eslint-disable-line @typescript-eslint/no-explicit-any -- as generated

/** As the specification reads, for what the generator makes: one level of keys. */
function reference(definition: { StartAt: string; States: Record<string, Plain> }, input: JsonObject): End {
  let data: JsonObject = structuredClone(input);
  let name = definition.StartAt;
  for (let n = 0; n < MAX_STEPS; n++) {
    const state = definition.States[name]!;
    const read = (path: string): Json | undefined => data[path.slice(2)];
    if (state.Type === 'Fail') return { kind: 'failed', error: state.Error };
    if (state.Type === 'Choice') {
      let next: string | undefined;
      for (const rule of state.Choices) {
        const value = read(rule.Variable);
        if ('IsPresent' in rule) {
          if ((value !== undefined) === rule.IsPresent) next = rule.Next;
        } else {
          if (value === undefined) return { kind: 'failed', error: 'States.ParameterPathFailure' };
          if ('NumericLessThan' in rule && typeof value === 'number' && value < rule.NumericLessThan) next = rule.Next;
          if ('StringEquals' in rule && value === rule.StringEquals) next = rule.Next;
          if ('BooleanEquals' in rule && value === rule.BooleanEquals) next = rule.Next;
        }
        if (next) break;
      }
      next ??= state.Default;
      if (!next) return { kind: 'failed', error: 'States.NoChoiceMatched' };
      name = next;
      continue;
    }
    if (state.Type !== 'Wait') {
      let value: Json = data;
      if (state.Parameters) {
        const built: JsonObject = {};
        for (const [key, given] of Object.entries<Json>(state.Parameters)) {
          if (key.endsWith('.$')) {
            const found = read(given as string);
            if (found === undefined) return { kind: 'failed', error: 'States.ParameterPathFailure' };
            built[key.slice(0, -2)] = found;
          } else if (key.endsWith('.=')) {
            const [, left = '', right = ''] = /^(\w+) \+ (\d+)$/.exec(given as string) ?? [];
            const found = data[left];
            if (typeof found !== 'number' && typeof found !== 'boolean')
              return { kind: 'failed', error: 'States.IntrinsicFailure' };
            built[key.slice(0, -2)] = Number(found) + Number(right);
          } else built[key] = given;
        }
        value = built;
      }
      data = { ...data, [state.ResultPath.slice(2)]: structuredClone(value) };
      if (JSON.stringify(data).length > 100_000) return { kind: 'going', data };
    }
    if (state.End) return { kind: 'done', data };
    name = state.Next;
  }
  return { kind: 'going', data };
}

const NAMES = ['A', 'B', 'C', 'D', 'E'];
const key = fc.constantFrom('a', 'b', 'c', 'd');
const next = fc.constantFrom(...NAMES);
const flowing = fc.oneof(
  next.map((Next) => ({ Next })),
  next.map((Next) => ({ Next })),
  fc.constant({ End: true }),
);
const constant = fc.oneof(fc.integer({ min: -3, max: 9 }), fc.constantFrom('x', 'y', true, false, null));
const parameter = fc.oneof(
  fc.tuple(key, constant).map(([k, v]) => [k, v] as const),
  fc.tuple(key, key).map(([k, from]) => [`${k}.$`, `$.${from}`] as const),
  fc.tuple(key, key, fc.integer({ min: 0, max: 3 })).map(([k, from, n]) => [`${k}.=`, `${from} + ${n}`] as const),
);
const parameters = fc
  .uniqueArray(parameter, { minLength: 1, maxLength: 3, selector: ([k]) => k.slice(0, 1) })
  .map((pairs) => Object.fromEntries(pairs));
const rule = fc
  .tuple(
    key,
    next,
    fc.oneof(
      fc.record({ NumericLessThan: fc.integer({ min: 0, max: 9 }) }),
      fc.constantFrom({ StringEquals: 'x' }, { BooleanEquals: true }, { IsPresent: true }, { IsPresent: false }),
    ),
  )
  .map(([from, Next, test]) => ({ Variable: `$.${from}`, ...test, Next }));
const state = fc.oneof(
  fc
    .tuple(key, flowing, fc.option(parameters, { nil: undefined }))
    .map(([to, flow, Parameters]) => ({ Type: 'Pass', ResultPath: `$.${to}`, ...flow, ...(Parameters ? { Parameters } : {}) })),
  fc
    .tuple(key, flowing, parameters)
    .map(([to, flow, Parameters]) => ({ Type: 'ExpressionEval', ResultPath: `$.${to}`, Parameters, ...flow })),
  fc
    .tuple(fc.array(rule, { minLength: 1, maxLength: 3 }), fc.option(next, { nil: undefined }))
    .map(([Choices, Default]) => ({ Type: 'Choice', Choices, ...(Default ? { Default } : {}) })),
  flowing.map((flow) => ({ Type: 'Wait', Seconds: 0, ...flow })),
  fc.constant({ Type: 'Fail', Error: 'Given', Cause: 'as asked' }),
);
const definition = fc
  .tuple(...NAMES.map(() => state))
  .map((states) => ({ StartAt: 'A', States: Object.fromEntries(states.map((one, at) => [NAMES[at]!, one])) }));

test('500 random definitions end as a plain reading of the specification says', () => {
  const ends: Record<string, number> = {};
  fc.assert(
    fc.property(definition, fc.record({ a: constant, b: constant }), (given, input) => {
      expect(validateDefinition(given).problems).toEqual([]);
      const expected = reference(given, input);
      const end = ours(given as never, input);
      if (expected.kind === 'going') expect(end.kind).not.toBe('done');
      else expect(end).toEqual(expected);
      ends[end.kind] = (ends[end.kind] ?? 0) + 1;
    }),
    { numRuns: 500, seed: 18 },
  );
  for (const kind of ['done', 'failed', 'going']) expect(ends[kind]).toBeGreaterThan(20);
});

test('any JSON value is validated without an exception, and a wrong one is refused', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
      expect(validateDefinition(value).problems.length).toBeGreaterThan(0);
    }),
    { numRuns: 300, seed: 18 },
  );
});

test('a definition with one field changed to anything is validated without an exception', () => {
  fc.assert(
    fc.property(
      definition,
      fc.constantFrom(...NAMES),
      fc.string(),
      fc.jsonValue({ maxDepth: 3 }),
      (given, name, field, value) => {
        const changed = structuredClone(given) as { States: Record<string, Record<string, unknown>> };
        changed.States[name]![field] = value;
        const known = validateDefinition(changed);
        for (const { loc, msg } of known.problems) {
          expect(loc[0]).toBe('States');
          expect(msg.length).toBeGreaterThan(10);
        }
      },
    ),
    { numRuns: 300, seed: 18 },
  );
});

const anyPath = fc.constantFrom(
  '$',
  '$.a',
  '$.b.c',
  "$['a b']",
  '$.a[0]',
  '$.b[3].c',
  '$._context.run_id',
  '$.__proto__.x',
  '$$.Map.Item.Value',
);
const anyValue = fc.oneof(
  fc.nat(),
  fc.array(fc.nat(), { maxLength: 4 }),
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom('2030-01-31T12:00:00Z', '*', '\\*', { $funcx: 'ref', taskId: 'known' }, { $funcx: 'other' }),
);
const anyExpression = fc.constantFrom(
  'a + b', '[x for x in a]', 'a[0]', 'b.c', "getattr('a.b', default=1)", 'len(a)', 'str(a) * 3', 'sorted(a)', 'a in b', '-a', 'sum(a)',
  '`$.a` == b', "'x'.join(a)", 'min(a, b)', '{str(a): b}', 'a if b else a', 'round(a, b)', 'a[b:]', 'not a', 'pathsplit(a)',
); // prettier-ignore
const anyParameters = fc
  .uniqueArray(
    fc.oneof(
      fc.tuple(fc.string({ maxLength: 3 }), anyValue).filter(([key]) => !/\.[$=]$/.test(key)),
      anyPath.map((path) => ['p.$', path] as const),
      anyExpression.map((text) => ['e.=', text] as const),
    ),
    { maxLength: 4, selector: ([key]) => key },
  )
  .map((pairs) => Object.fromEntries(pairs));
const anyRule = fc
  .tuple(fc.constantFrom(...COMPARISONS), anyPath, anyPath, fc.string(), fc.double({ noNaN: true }), fc.boolean())
  .map(([[name, wanted], Variable, path, text, number, truth]) => {
    const values = { string: text, number, boolean: truth, timestamp: '2030-01-31T12:00:00+01:00', path };
    return { Variable, [name]: values[wanted] };
  });
const wrappedRule = fc.oneof(
  anyRule,
  anyRule.map((Not) => ({ Not })),
  fc.array(anyRule, { minLength: 1, maxLength: 3 }).map((And) => ({ And })),
  fc.array(anyRule, { minLength: 1, maxLength: 3 }).map((Or) => ({ Or })),
);
const innerFlow = { StartAt: 'I', States: { I: { Type: 'Pass', End: true } } };
const anyState = fc.oneof(
  fc.tuple(anyPath, anyPath).map(([InputPath, ResultPath]) => ({ Type: 'Pass', InputPath, ResultPath, End: true })),
  fc.tuple(anyParameters, anyPath).map(([Parameters, ResultPath]) => ({ Type: 'Pass', Parameters, ResultPath, End: true })),
  fc
    .tuple(anyParameters, anyPath)
    .map(([Parameters, ResultPath]) => ({ Type: 'ExpressionEval', Parameters, ResultPath, End: true })),
  fc.array(wrappedRule, { minLength: 1, maxLength: 4 }).map((rules) => ({
    Type: 'Choice',
    Choices: rules.map((one) => ({ ...one, Next: 'A' })),
  })),
  fc.nat({ max: 1_000 }).map((Seconds) => ({ Type: 'Wait', Seconds, End: true })),
  fc
    .tuple(fc.constantFrom('SecondsPath', 'TimestampPath'), anyPath)
    .map(([name, path]) => ({ Type: 'Wait', [name]: path, End: true })),
  fc.tuple(anyPath, anyPath).map(([ErrorPath, CausePath]) => ({ Type: 'Fail', ErrorPath, CausePath })),
  anyParameters.map((Parameters) => ({
    Type: 'Action',
    ActionUrl: 'https://compute.actions.globus.org/v3',
    Parameters,
    End: true,
  })),
  fc.tuple(anyPath, anyParameters).map(([ItemsPath, ItemSelector]) => ({
    Type: 'Map',
    ItemsPath,
    ItemSelector,
    ItemProcessor: innerFlow,
    End: true,
  })),
  anyPath.map((InputPath) => ({ Type: 'Parallel', InputPath, Branches: [innerFlow], End: true })),
);

test('a state of any type that validation accepts moves on or fails with a named error, whatever the run holds', () => {
  const ends: Record<string, number> = {};
  fc.assert(
    fc.property(anyState, fc.record({ a: anyValue, b: anyValue, 'a b': anyValue }), (given, data) => {
      if (validateDefinition(flow({ A: given })).problems.length > 0) {
        ends.refused = (ends.refused ?? 0) + 1;
        return;
      }
      const scope = { data: data as Json, context: { run_id: 'r' }, loaded: new Map<string, Json>([['known', [1, 2]]]) };
      try {
        const { kind } = enter(given as never, scope, 0, []);
        ends[kind] = (ends[kind] ?? 0) + 1;
      } catch (error) {
        if (!(error instanceof FlowError)) throw error;
        expect(error.error).toMatch(/^(States\.|Action)/);
        ends.error = (ends.error ?? 0) + 1;
      }
    }),
    { numRuns: 2_000, seed: 18 },
  );
  for (const kind of ['moved', 'wait', 'failed', 'action', 'map', 'parallel', 'error']) expect(ends[kind]).toBeGreaterThan(5);
});

test('a loop that nests a value ever deeper, or makes it ever longer, ends with an error', () => {
  const grown = (expression: string): string => {
    let data: Json = { v: [0] };
    const state = { Type: 'ExpressionEval' as const, Parameters: { 'v.=': expression }, ResultPath: '$', End: true };
    for (let n = 0; n < 1_000; n++) {
      try {
        const entered = enter(state, { data, context: {}, loaded: new Map() }, 0, []);
        if (entered.kind === 'moved') data = entered.data;
      } catch (error) {
        if (error instanceof FlowError) return `${error.error} after ${n}`;
        throw error;
      }
    }
    return 'never';
  };
  expect(grown('[v]')).toMatch(/^States\.DataLimitExceeded after 19\d$/);
  expect(grown('v + v')).toMatch(/^States\.DataLimitExceeded after 1\d$/);
});

const flow = (states: object): unknown => ({ StartAt: 'A', States: states });

test.each([
  [{ StartAt: 'B', States: { A: { Type: 'Pass', End: true } } }, ['StartAt'], 'there is no state "B"'],
  [{ ...(flow({ A: { Type: 'Pass', End: true } }) as object), Version: '1' }, ['Version'], 'there is no field Version'],
  [flow({ A: { Type: 'Succeed' } }), ['States', 'A', 'Type'], '"End": true'],
  [flow({ A: { Type: 'Pass' } }), ['States', 'A'], 'needs Next'],
  [flow({ A: { Type: 'Pass', End: true, 'InputPath.$': '$.a' } }), ['States', 'A', 'InputPath.$'], 'without the ending'],
  [flow({ A: { Type: 'Pass', End: true, OutputPath: '$' } }), ['States', 'A', 'OutputPath'], 'use ResultPath'],
  [flow({ A: { Type: 'Pass', End: true, InputPath: '$.a[*]' } }), ['States', 'A', 'InputPath'], 'not part of a reference path'],
  [
    flow({ A: { Type: 'ExpressionEval', End: true, ResultPath: '$.x', Parameters: { 'x.=': '1 +' } } }),
    ['States', 'A', 'Parameters', 'x.='],
    'a value is missing at the end',
  ],
  [
    flow({ A: { Type: 'Choice', Choices: [{ Variable: '$.a', StringEqual: 'x', Next: 'A' }] } }),
    ['States', 'A', 'Choices', 0, 'StringEqual'],
    'there is no comparison',
  ],
  [flow({ A: { Type: 'Wait', End: true } }), ['States', 'A'], 'needs one of Seconds'],
  [
    flow({ A: { Type: 'Action', ActionUrl: 'https://compute.actions.globus.org/v3', End: true } }),
    ['States', 'A'],
    'needs one of Parameters',
  ],
  [
    flow({ A: { Type: 'Action', ActionUrl: 'https://transfer.actions.globus.org/transfer/', Parameters: {}, End: true } }),
    ['States', 'A', 'ActionUrl'],
    'Globus Transfer',
  ],
  [
    flow({ A: { Type: 'Pass', End: true, Parameters: { __Private_Parameters: ['gone'], a: 1 } } }),
    ['States', 'A', 'Parameters', '__Private_Parameters', 0],
    'nothing would be hidden',
  ],
])('mistake %# is refused at its place', (given, loc, message) => {
  expect(validateDefinition(given).problems).toContainEqual(
    expect.objectContaining({ loc, msg: expect.stringContaining(message) }),
  );
});

/** What a small request may cost the API: far less than this on any machine. */
const SOON_MS = 5_000;

test.each([
  [
    'many states and many wrong targets',
    { ...Object.fromEntries(Array.from({ length: 25_000 }, (_, n) => [`s${n}`, 0])), A: { Catch: 24_000 } },
    [['States'], 'more than 1000 states'],
  ],
  ['many wrong targets', { ...named(900), A: { Catch: 20_000 } }, [['States', 'A', 'Catch', 0, 'Next'], 'there is no state "q"']],
  [
    'an address of slashes',
    { A: { Type: 'Action', ActionUrl: `${'/'.repeat(900_000)}x`, Parameters: {}, End: true } },
    [['States', 'A', 'ActionUrl'], 'at most'],
  ],
  [
    'a long name above many mistakes',
    { A: { Type: 'Pass', End: true, Parameters: { ['k'.repeat(500_000)]: Array(20_000).fill({ 'a.=': 1 }) } } },
    [[], 'more mistakes'],
  ],
] as const)('a definition with %s is refused soon, with a short list of mistakes', (_what, states, [loc, message]) => {
  const given = structuredClone(states) as Record<string, Record<string, unknown>>;
  if (given.A?.Catch !== undefined) {
    const wrong = Array(given.A.Catch).fill({ Next: 'q' });
    given.A = { Type: 'Map', ItemProcessor: flow({ A: { Type: 'Pass', End: true } }), End: true, Catch: wrong };
  }
  const startedMs = Date.now();
  const { problems } = validateDefinition(flow(given));
  expect(Date.now() - startedMs).toBeLessThan(SOON_MS);
  expect(problems).toContainEqual(expect.objectContaining({ loc, msg: expect.stringContaining(message) }));
  expect(problems.length).toBeLessThanOrEqual(101);
  expect(JSON.stringify(problems).length).toBeLessThan(500_000);
});

function named(count: number): Record<string, unknown> {
  return Object.fromEntries(Array.from({ length: count }, (_, n) => [`s${n}`, { Type: 'Pass', End: true }]));
}

test('what the hosted service would refuse is listed as not portable', () => {
  const inner = { StartAt: 'X', States: { X: { Type: 'Pass', End: true } } };
  const { problems, notPortable } = validateDefinition(
    flow({
      A: { Type: 'Map', ItemProcessor: inner, Next: 'B' },
      B: { Type: 'Parallel', Branches: [inner], Next: 'C' },
      C: {
        Type: 'Action',
        ActionUrl: 'https://compute.actions.globus.org/v3/',
        Parameters: {},
        Retry: [{ ErrorEquals: ['States.ALL'] }],
        End: true,
      },
    }),
  );
  expect(problems).toEqual([]);
  expect(notPortable.map(({ loc }) => loc.join('.'))).toEqual(['States.A', 'States.B', 'States.C.Retry']);
});

test('the first catcher that names the error gets error and cause', () => {
  const given = {
    Type: 'Action' as const,
    Catch: [
      { ErrorEquals: ['Other'], Next: 'X' },
      { ErrorEquals: ['States.All'], Next: 'Y', ResultPath: '$.error' },
    ],
  };
  expect(caught(given, { a: 1 }, 'Boom', 'why')).toEqual({ data: { a: 1, error: { Error: 'Boom', Cause: 'why' } }, next: 'Y' });
  expect(caught({ ...given, Catch: [] }, {}, 'Boom', 'why')).toBeUndefined();
});

test('the expressions of one state have a limit together', () => {
  const spend = 'len([0 for x in many])';
  const data = { many: Array<number>(20_000).fill(0), items: Array<number>(10_000).fill(0) };
  const scope = { data, context: {}, loaded: new Map<string, Json>() };
  const keys = Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`k${n}.=`, spend]));
  const startedMs = Date.now();
  for (const given of [
    { Type: 'Pass', Parameters: keys, End: true },
    { Type: 'Map', ItemsPath: '$.items', ItemSelector: { 'a.=': spend }, End: true },
  ] as const)
    expect(() => enter(given, scope, 0, [])).toThrow(/with the others of its state/);
  expect(Date.now() - startedMs).toBeLessThan(10_000);
});

test('a Choice that compares long texts ends soon', () => {
  const data = { text: 'a'.repeat(400_000), other: `${'a'.repeat(400_000)}b` };
  const scope = { data, context: {}, loaded: new Map<string, Json>() };
  const startedMs = Date.now();
  const rules = Array(8_000).fill({ Variable: '$.text', StringGreaterThanPath: '$.other', Next: 'A' });
  try {
    enter({ Type: 'Choice', Choices: rules, Default: 'A' }, scope, 0, []);
  } catch (error) {
    expect(error).toBeInstanceOf(FlowError);
  }
  const slowRule = { Variable: '$.text', StringMatches: `*b${'a'.repeat(200_000)}*`, Next: 'A' };
  enter({ Type: 'Choice', Choices: [slowRule], Default: 'A' }, scope, 0, []);
  expect(Date.now() - startedMs).toBeLessThan(10_000);
});
