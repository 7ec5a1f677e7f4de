import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { parseJsonArray } from '../../cli/arguments';
import { noteOf, pickledBytes, showValue, writeValue } from '../../cli/value';
import { packJsonArguments } from '../../contracts/packing';

/** What the command line makes of arguments and results. */

const pickleOf = (base64: string): string => `00\n${base64}\n`;
/** dill.dumps({1}), dill.dumps(b'\x00abc'), dill.dumps(b'x' * 300). */
const SET = 'gASVBwAAAAAAAACPlChLAZAu';
const BYTES = 'gASVCAAAAAAAAABDBABhYmOULg==';
const LONG = Buffer.concat([
  Buffer.from('\x80\x04\x95\x34\x01\0\0\0\0\0\0B\x2c\x01\0\0', 'latin1'),
  Buffer.alloc(300, 'x'),
  Buffer.from('\x94.', 'latin1'),
]);

test('numbers of a result are shown as the function wrote them', () => {
  const written = '{"loss": NaN, "id": 3544790567247868102, "rate": 1.0, "big": 1e400, "tiny": 1e-7}';
  const compact = '{"loss":NaN,"id":3544790567247868102,"rate":1.0,"big":1e400,"tiny":1e-7}';
  expect(showValue(`11\n${written}`, undefined)).toEqual({ text: compact, json: compact });
  expect(showValue('11\n"two\\nlines"', undefined)).toEqual({ text: 'two\nlines', json: '"two\\nlines"' });
  expect(noteOf(showValue('11\n1', undefined))).toBeUndefined();
});

test('a result that is too deep to be parsed is shown as it is', () => {
  const deep = '['.repeat(100_000) + ']'.repeat(100_000);
  expect(showValue(`11\n${deep}`, undefined).text).toBe(deep);
});

test('numbers among arguments are sent as they are typed', () => {
  const args = parseJsonArray('[NaN, 3544790567247868102, 1.0, 1e400, -0, 10000000000000000]');
  const text = '[NaN,3544790567247868102,1.0,1e400,-0,10000000000000000]';
  expect(packJsonArguments(args)).toContain(`\n11\n${text}`);
});

test('arguments come from a file with a byte order mark and the line ends of Windows', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'funcx-args-')), 'args.json');
  writeFileSync(file, '\uFEFF[1.0,\r\n "größe"]\r\n');
  expect(packJsonArguments(parseJsonArray(`@${file}`))).toContain('[1.0,"größe"]');
  expect(() => parseJsonArray('@/nowhere')).toThrow(/the file \/nowhere cannot be read/);
});

test('a value that is not JSON is shown by what the agent says of it', () => {
  const shown = showValue(pickleOf(SET), { value: { type: 'set', repr: '{1}' } });
  expect(shown).toMatchObject({ text: '{1}', look: { type: 'set', repr: '{1}' } });
  expect(JSON.parse(shown.json)).toEqual({ identifier: '00', data: `${SET}\n` });
  expect(noteOf(shown)).toBe('The value is of type set, shown by its repr; --output FILE writes it to a file.');
  const unknown = showValue(pickleOf(SET), undefined);
  expect(unknown.text).toBe('<a value that is not JSON, a pickle of 18 bytes>');
  expect(noteOf(unknown)).toBe('The value is not JSON; --output FILE writes it to a file.');
});

test('bytes and pickles are written to a file', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'funcx-value-')), 'out');
  expect(writeValue(file, pickleOf(BYTES), { value: { type: 'bytes' } })).toContain('the bytes that the function returned');
  expect(readFileSync(file)).toEqual(Buffer.from('\0abc'));
  expect(writeValue(file, pickleOf(SET), { value: { type: 'set' } })).toContain('a pickle of set');
  expect(readFileSync(file).toString('base64')).toBe(SET);
  writeValue(file, '11\n"text"', undefined);
  expect(readFileSync(file, 'utf8')).toBe('text');
  writeValue(file, '11\n[1.0]', undefined);
  expect(readFileSync(file, 'utf8')).toBe('[1.0]\n');
  expect(() => writeValue('/nowhere/out', '11\n1', undefined)).toThrow(/Could not write the value to \/nowhere\/out: .*ENOENT/);
});

test('only a pickle of bytes alone is taken apart', () => {
  expect(pickledBytes(LONG)).toEqual(Buffer.alloc(300, 'x'));
  expect(pickledBytes(LONG.subarray(0, 5))).toBeUndefined();
  expect(pickledBytes(Buffer.from(SET, 'base64'))).toBeUndefined();
});
