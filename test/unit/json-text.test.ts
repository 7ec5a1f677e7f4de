import fc from 'fast-check';

import { isExactInJavaScript, parseExactly, parseJsonText, stringifyJsonText } from '../../contracts/json-text';
import { packJsonArguments, packJsonTexts, unpackBuffers } from '../../contracts/packing';
import { valueOf } from '../../sdk/values';

test('JSON is read as JSON.parse reads it, through the reader for suspicious text too', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom('', ' ', '\n\t'), (value, space) => {
      const text = JSON.stringify({ value, suspicious: 'NaN' }, undefined, space);
      fc.pre(!/[0-9]{16}/.test(text));
      expect(parseJsonText(text)).toEqual(JSON.parse(text));
    }),
  );
});

test.each(['[NaN', '[1,]', '{"a" 1, "b": NaN}', '"NaN', '[NaN] 1', '-', '[01, NaN]', '"a\nNaN"'])('%j is not JSON', (text) => {
  expect(() => parseJsonText(text)).toThrow(SyntaxError);
});

test('NaN and the infinities of Python are read', () => {
  expect(parseJsonText('{"loss": NaN, "range": [-Infinity, Infinity]}')).toEqual({ loss: NaN, range: [-Infinity, Infinity] });
});

test('an integer beyond 2^53 is refused by name, or read as a bigint', () => {
  expect(() => parseJsonText('[1, 3544790567247868102]')).toThrow('The integer 3544790567247868102 is too large');
  expect(parseJsonText('[1, 3544790567247868102, 1.5]', { integers: 'bigint' })).toEqual([1, 3544790567247868102n, 1.5]);
  expect(() => parseJsonText('[1e400]', { integers: 'bigint' })).toThrow('The number 1e400 is too large');
  expect(parseJsonText('9007199254740991')).toBe(9007199254740991);
  expect(parseJsonText('"3544790567247868102"')).toBe('3544790567247868102');
});

test('only text whose values JSON.parse keeps is exact', () => {
  expect(['[1.5, "NaN"]', '{"a": 123456789012345}'].every(isExactInJavaScript)).toBe(true);
  expect(['NaN', '[3544790567247868102]', '1e400', 'no json NaN'].some(isExactInJavaScript)).toBe(false);
});

test('plain values are written as JSON.stringify writes them', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      fc.pre(!JSON.stringify(value).match(/[0-9]{16}/));
      expect(stringifyJsonText(value)).toBe(JSON.stringify(value));
    }),
  );
  const date = new Date(0);
  expect(stringifyJsonText({ date, left: undefined, list: [undefined] })).toBe(
    '{"date":"1970-01-01T00:00:00.000Z","list":[null]}',
  );
});

test('exact numbers are written as they were read', () => {
  const text = '[1.0,1e2,10000000000000000,1152921504606846976,-0,NaN,1e400,0.1,7]';
  expect(stringifyJsonText(parseExactly(text))).toBe(text);
});

test('a bigint becomes an integer', () => {
  expect(stringifyJsonText({ id: 3544790567247868102n })).toBe('{"id":3544790567247868102}');
});

const loop: unknown[] = [];
loop.push({ loop });

test.each([
  ['NaN', [1, NaN], 'The argument list[1] is NaN'],
  ['Infinity', [{ a: -Infinity }], 'The argument list[0].a is -Infinity'],
  ['an unsafe integer', [2 ** 60], 'The argument list[0] is an integer beyond 2^53 (1152921504606847000)'],
  ['a set', [{ seen: new Set([1]) }], 'The argument list[0].seen is of type Set'],
  ['a map', [new Map()], 'The argument list[0] is of type Map'],
  ['a function', [[() => 1]], 'The argument list[0][0] is a function'],
  ['a symbol', [Symbol('s')], 'The argument list[0] is a symbol'],
  ['binary data', [Buffer.from('a')], 'The argument list[0] is of type Buffer'],
  ['an error', [new RangeError('x')], 'The argument list[0] is of type RangeError'],
  ['a promise', [Promise.resolve(1)], 'The argument list[0] is of type Promise'],
  ['a cycle', loop, 'The argument list[0].loop refers to itself'],
])('%s is refused by name and place', (_what, args, sentence) => {
  expect(() => packJsonArguments(args)).toThrow(sentence);
});

test('text of arguments is packed verbatim, and values are read from results without loss', () => {
  const buffers = unpackBuffers(packJsonTexts('[1.0, 3544790567247868102, NaN]'));
  expect(buffers.map(({ body }) => body)).toEqual(['[1.0, 3544790567247868102, NaN]', '{}']);
  expect(valueOf('11\n{"loss": NaN}')).toEqual({ loss: NaN });
  expect(() => valueOf('11\n3544790567247868102')).toThrow('Read it as a bigint');
  expect(valueOf('11\n3544790567247868102', { integers: 'bigint' })).toBe(3544790567247868102n);
});
