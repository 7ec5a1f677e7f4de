import fc from 'fast-check';

import {
  ID_RANDOM_BYTES,
  idTimeMs,
  isUuid,
  maxTaskIdOf,
  lowestIdAt,
  makeSharedIds,
  makeSubmissionId,
  MAX_SHARED_SUBMISSIONS,
  MAX_TASK_INDEX,
  submissionIdOf,
  taskIdOf,
  taskIndexOf,
} from '../../contracts/ids';

const time = fc.integer({ min: 0, max: 2 ** 48 - 1 });
const random = fc.uint8Array({ minLength: ID_RANDOM_BYTES, maxLength: ID_RANDOM_BYTES });
const submission = fc.tuple(time, random).map(([ms, bytes]) => makeSubmissionId(ms, bytes));
const index = fc.integer({ min: 1, max: MAX_TASK_INDEX });

describe('submission and task ids', () => {
  test('are UUIDs of version 8 and of the usual variant, which every library takes', () => {
    fc.assert(
      fc.property(submission, index, (id, n) => {
        for (const one of [id, taskIdOf(id, n)]) {
          expect(isUuid(one)).toBe(true);
          expect(one).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
        }
      }),
    );
  });

  test('give back what they were made of: time, submission and index', () => {
    fc.assert(
      fc.property(time, random, index, (ms, bytes, n) => {
        const id = makeSubmissionId(ms, bytes);
        const task = taskIdOf(id, n);
        expect(idTimeMs(id)).toBe(ms);
        expect(idTimeMs(task)).toBe(ms);
        expect(submissionIdOf(task)).toBe(id);
        expect(submissionIdOf(id)).toBe(id);
        expect(taskIndexOf(task)).toBe(n);
        expect(taskIndexOf(id)).toBe(0);
      }),
    );
  });

  test('differ when a random byte differs: all of them are used', () => {
    fc.assert(
      fc.property(time, random, fc.nat(ID_RANDOM_BYTES - 1), fc.integer({ min: 1, max: 255 }), (ms, bytes, at, flip) => {
        const other = Uint8Array.from(bytes);
        other[at] = other[at]! ^ flip; // at lies within the bytes
        // 54 of the 56 bits: the two highest of the first byte are not.
        fc.pre(at > 0 || (flip & 0x3f) !== 0);
        expect(makeSubmissionId(ms, other)).not.toBe(makeSubmissionId(ms, bytes));
      }),
    );
  });

  test('sort by time, then by index, so that a table can be cut by day', () => {
    fc.assert(
      fc.property(time, time, random, random, index, (a, b, one, other, n) => {
        fc.pre(a < b);
        expect(taskIdOf(makeSubmissionId(a, one), n) < makeSubmissionId(b, other)).toBe(true);
        expect(lowestIdAt(b) <= makeSubmissionId(b, other)).toBe(true);
        expect(makeSubmissionId(a, one) < lowestIdAt(b)).toBe(true);
      }),
    );
  });

  test.each([0, -1, 1.5, MAX_TASK_INDEX + 1, NaN])('no task has the index %s', (n) => {
    expect(() => taskIdOf(makeSubmissionId(1, new Uint8Array(ID_RANDOM_BYTES)), n)).toThrow(RangeError);
  });

  test('too few random bytes are refused', () => {
    expect(() => makeSubmissionId(1, new Uint8Array(ID_RANDOM_BYTES - 1))).toThrow(RangeError);
  });
});

test('IDs of submissions that share a workflow follow each other, and the IDs of their tasks lie between them', () => {
  fc.assert(
    fc.property(time, random, fc.integer({ min: 2, max: MAX_SHARED_SUBMISSIONS }), index, (ms, bytes, count, n) => {
      const ids = makeSharedIds(ms, bytes, count);
      const [first = '', second = '', last = ''] = [ids[0], ids[1], ids.at(-1)];
      expect(new Set(ids).size).toBe(count);
      expect([...ids].sort()).toEqual(ids);
      expect(ids.every((id) => isUuid(id) && submissionIdOf(id) === id && idTimeMs(id) === ms)).toBe(true);
      expect(first < taskIdOf(first, n) && taskIdOf(first, n) < second).toBe(true);
      expect(taskIdOf(last, n) <= maxTaskIdOf(last)).toBe(true);
    }),
    { numRuns: 20 },
  );
  expect(() => makeSharedIds(0, new Uint8Array(ID_RANDOM_BYTES), MAX_SHARED_SUBMISSIONS + 1)).toThrow(RangeError);
});
