import fc from 'fast-check';

import { policySchema, retriesSchema, retryDelayMs, type Retries } from '../../contracts/policy';

const retries = (wanted: Partial<Retries> = {}): Retries => retriesSchema.parse({ attempts: 3, ...wanted });
const raised = (...classes: string[]) => ({
  code: 'RemoteExecutionError',
  exception: { name: classes[0]?.split('.').at(-1) ?? '', classes },
});

describe('a retry policy', () => {
  test('is absent by default: a failure is the answer', () => {
    expect(retryDelayMs({}, 1, raised('ValueError'))).toBeUndefined();
  });

  test('ends after its attempts, the first included', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 200 }), (attempts, attempt) => {
        const delay = retryDelayMs({ retries: retries({ attempts }) }, attempt, raised('ValueError'));
        expect(delay !== undefined).toBe(attempt < attempts);
      }),
    );
  });

  test('waits longer each time, and never more than an hour', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 3600, noNaN: true }), fc.integer({ min: 1, max: 98 }), (backoff, attempt) => {
        const policy = { retries: retries({ attempts: 100, backoff_s: backoff }) };
        const first = retryDelayMs(policy, attempt, raised('ValueError'))!; // attempts are left
        const second = retryDelayMs(policy, attempt + 1, raised('ValueError'))!;
        expect(second).toBeGreaterThanOrEqual(first);
        expect(second).toBeLessThanOrEqual(3_600_000);
      }),
    );
  });

  test('that names exceptions retries these, by the last part of their name, and error codes too', () => {
    const policy = { retries: retries({ on: ['TimeoutError', 'WalltimeExceeded'] }) };
    expect(retryDelayMs(policy, 1, raised('TimeoutError'))).toBe(1000);
    expect(retryDelayMs(policy, 1, raised('ValueError'))).toBeUndefined();
    expect(retryDelayMs(policy, 1, { code: 'WalltimeExceeded' })).toBe(1000);
  });

  test('that names a base class retries the classes derived from it, and a dotted name means that class only', () => {
    const on = (...names: string[]) => ({ retries: retries({ on: names }) });
    const reset = raised('builtins.ConnectionResetError', 'builtins.ConnectionError', 'builtins.OSError', 'builtins.Exception');
    expect(retryDelayMs(on('OSError'), 1, reset)).toBe(1000);
    expect(retryDelayMs(on('builtins.OSError'), 1, reset)).toBe(1000);
    expect(retryDelayMs(on('ConnectionResetError'), 1, reset)).toBe(1000);
    expect(retryDelayMs(on('other.OSError', 'ValueError'), 1, reset)).toBeUndefined();
  });

  test('that names exit codes retries these', () => {
    const policy = { retries: retries({ exit_codes: [75] }) };
    expect(retryDelayMs(policy, 1, { code: 'RemoteExecutionError', exitCode: 75 })).toBe(1000);
    expect(retryDelayMs(policy, 1, { code: 'RemoteExecutionError', exitCode: 1 })).toBeUndefined();
  });

  test('never brings a cancelled task back', () => {
    expect(retryDelayMs({ retries: retries() }, 1, { code: 'Cancelled' })).toBeUndefined();
  });

  test.each([
    ['no attempts', { retries: { attempts: 0 } }],
    ['a misspelt key', { retry: { attempts: 2 } }],
    ['a deadline in the past', { deadline_s: -1 }],
    ['a deadline of a year', { deadline_s: 366 * 24 * 3600 }],
    ['no walltime', { walltime_s: 0 }],
  ])('with %s is refused', (_, policy) => {
    expect(policySchema.safeParse(policy).success).toBe(false);
  });
});
