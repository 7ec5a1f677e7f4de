import fc from 'fast-check';

import { BUFFER, packBuffer, packJsonArguments, splitBuffer, unpackBuffers } from '../../contracts/packing';

const text = fc.string({ unit: 'binary', maxLength: 200 }); // astral characters and newlines included
/** JSON values without integers that JavaScript cannot hold exactly; those are refused. */
const jsonValue = (): fc.Arbitrary<fc.JsonValue> => fc.jsonValue().filter((value) => !/\d{16}|e\+/.test(JSON.stringify(value)));
const identifier = fc.constantFrom(...Object.values(BUFFER));

describe('packed buffers', () => {
  test('unpack to what was packed, whatever the text and however many', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ identifier, body: text }), { maxLength: 6 }), (buffers) => {
        const packed = buffers.map(({ identifier: id, body }) => packBuffer(id, body)).join('');
        expect(unpackBuffers(packed)).toEqual(buffers);
      }),
    );
  });

  test('count characters as Python does: a smiley is one', () => {
    expect(packBuffer('11', '😀')).toBe('4\n11\n😀');
    expect(packBuffer('11', 'é')).toBe('4\n11\né');
  });

  test('of a call are its arguments and keyword arguments as JSON', () => {
    fc.assert(
      fc.property(fc.array(jsonValue()), fc.dictionary(fc.string(), jsonValue()), (args, kwargs) => {
        const [first, second, ...rest] = unpackBuffers(packJsonArguments(args, kwargs));
        expect(rest).toEqual([]);
        expect([first?.identifier, second?.identifier]).toEqual([BUFFER.json, BUFFER.json]);
        expect(first?.body).toBe(JSON.stringify(args));
        expect(second?.body).toBe(JSON.stringify(kwargs));
      }),
    );
  });

  test('that are cut short are refused with the place, never read as something else', () => {
    fc.assert(
      fc.property(identifier, text, fc.nat(), (id, body, cut) => {
        const characters = [...packBuffer(id, body)];
        const short = characters.slice(0, cut % characters.length).join('');
        fc.pre(short.length > 0);
        expect(() => unpackBuffers(short)).toThrow(SyntaxError);
      }),
    );
  });

  test('whatever text arrives, unpacking ends with buffers or with a syntax error', () => {
    fc.assert(
      fc.property(fc.oneof(text, fc.string({ unit: fc.constantFrom('0', '1', '9', '\n', 'a', '😀') })), (anything) => {
        try {
          unpackBuffers(anything);
        } catch (error) {
          expect(error).toBeInstanceOf(SyntaxError);
        }
      }),
    );
  });

  test('a buffer without its identifier is refused', () => {
    for (const wrong of ['', '1\n', '111\n[]', 'ab']) expect(() => splitBuffer(wrong)).toThrow(SyntaxError);
    expect(splitBuffer('11\n[1]\n')).toEqual({ identifier: '11', body: '[1]\n' });
  });
});
