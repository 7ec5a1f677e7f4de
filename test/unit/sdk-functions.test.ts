import { Script } from 'node:vm';

import { javascript, python, SerializedValue } from '../../sdk/index';
import { wirePolicy } from '../../sdk/policy';
import { valueOf } from '../../sdk/values';

/** As the agent's worker does it. */
const revive = (source: string): ((...args: unknown[]) => unknown) =>
  new Script(`(${source}\n)`).runInThisContext() as (...args: unknown[]) => unknown;

describe('the source of a function', () => {
  test('stands by itself, whether it is an arrow, a declaration, asynchronous or a method', async () => {
    function declared(n: number): number {
      return n + 1;
    }
    const object = {
      method(n: number) {
        return n + 2;
      },
      async later(n: number) {
        return Promise.resolve(n + 3);
      },
    };
    expect(revive(javascript(declared).source)(1)).toBe(2);
    expect(revive(javascript((n: number) => n * 10).source)(1)).toBe(10);
    expect(revive(javascript(object.method).source)(1)).toBe(3);
    expect(await revive(javascript(object.later).source)(1)).toBe(4);
    expect(javascript(declared).name).toBe('declared');
    expect(javascript(() => 1).name).toBe('anonymous');
  });

  test('is refused where there is none', () => {
    expect(() => javascript(Math.max)).toThrow(/built in or bound/);
    expect(() => javascript((() => 1).bind(null))).toThrow(/built in or bound/);
    class Thing {}
    expect(() => javascript(Thing as unknown as () => void)).toThrow(/is a class/);
  });

  test('in Python names its only function, and asks which of several is meant', () => {
    expect(python('import os\n\nasync def go():\n    def inner(): pass\n').name).toBe('go');
    expect(() => python('def a(): pass\ndef b(): pass\n')).toThrow(/at its top level are: a, b/);
    expect(python('def a(): pass\ndef b(): pass\n', 'b').name).toBe('b');
    expect(() => python('x = 1\n')).toThrow(/none/);
  });
});

describe('the policy of a call', () => {
  test('goes over the wire in the words of the service, and nothing is sent for nothing', () => {
    expect(wirePolicy({})).toBeUndefined();
    expect(wirePolicy({ retries: { attempts: 2, backoffS: 0, on: ['E'], exitCodes: [3] }, deadlineS: 9 })).toEqual({
      retries: { attempts: 2, backoff_s: 0, on: ['E'], exit_codes: [3] },
      deadline_s: 9,
    });
    expect(() => wirePolicy({ walltimeS: -1 })).toThrow(/walltime_s/);
  });
});

test('a result buffer is a JSON value, or an opaque one that keeps its text', () => {
  expect(valueOf('11\n{"a":[1,null]}')).toEqual({ a: [1, null] });
  expect(valueOf('00\nabc\n')).toEqual(new SerializedValue('00', 'abc\n'));
  expect(() => valueOf('nonsense')).toThrow(SyntaxError);
});
