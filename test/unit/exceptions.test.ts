import fc from 'fast-check';

import { exceptionName, isNamed, raisedException } from '../../contracts/exceptions';

const HEAD = 'Traceback (most recent call last):\n  File "<f>", line 2, in f\n    raise X\n    ^^^^^^^\n';

describe('the name of an exception', () => {
  test.each([
    ['a plain traceback', `${HEAD}TimeoutError: too late`, 'TimeoutError'],
    ['a dotted name', `${HEAD}requests.exceptions.ConnectionError: refused\n`, 'ConnectionError'],
    ['a class of a function', `${HEAD}__main__.f.<locals>.Busy: try later\n`, 'Busy'],
    ['a message of several lines', `${HEAD}ValueError: first\nHINT: second\nKeyError: third\n`, 'ValueError'],
    ['a note', `${HEAD}ValueError: wrong\nHINT\n`, 'ValueError'],
    ['an exception without a message', `${HEAD}KeyboardInterrupt\n`, 'KeyboardInterrupt'],
    [
      'a pydantic error',
      `${HEAD}pydantic_core._pydantic_core.ValidationError: 1 validation error for M\nx\n  Input should be a valid integer [type=int_parsing]\n    For further information visit https://errors.pydantic.dev\n`,
      'ValidationError',
    ],
    [
      'an exception group',
      '  + Exception Group Traceback (most recent call last):\n  |   File "<f>", line 1, in f\n  |     raise g\n  | ExceptionGroup: two (2 sub-exceptions)\n  +-+---------------- 1 ----------------\n    | ValueError: 1\n    +------------------------------------\n',
      'ExceptionGroup',
    ],
    [
      'a chain',
      `${HEAD}KeyError: 'a'\n\nDuring handling of the above exception, another exception occurred:\n\n${HEAD}OSError: b\n`,
      'OSError',
    ],
    ['a message that quotes a traceback', `${HEAD}RuntimeError: the child said\n${HEAD}ValueError: no\n`, 'RuntimeError'],
    ['a name beyond ASCII', `${HEAD}m.GrößeError: 7\n`, 'GrößeError'],
    ['a JavaScript stack', 'RangeError: too far\nOther: line\n    at f (<function f>:1:2)\n', 'RangeError'],
    ['a command', 'some output\nShellCommandFailed: the command exited with code 3: false\n', 'ShellCommandFailed'],
    ['no text', '', undefined],
    ['indented text', '  indented only', undefined],
  ])('is read from %s', (_what, text, name) => {
    expect(exceptionName(text)).toBe(name);
  });

  test('is found or not, but never throws, in any text', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => ['string', 'undefined'].includes(typeof exceptionName(text))));
  });
});

test('classes that the agent sends count more than the text', () => {
  const details = { exception: ['m.f.<locals>.Busy', 'builtins.OSError'] };
  const raised = raisedException(details, `${HEAD}ValueError: misleading\n`);
  expect(raised).toEqual({ name: 'Busy', classes: details.exception });
  expect(['Busy', 'OSError', 'builtins.OSError', 'ValueError'].map((name) => raised && isNamed(raised, name))).toEqual([
    true,
    true,
    true,
    false,
  ]);
});

test.each([undefined, null, 'text', { exception: 'Busy' }, { exception: [1, ''] }])('details %j are ignored', (details) => {
  expect(raisedException(details, `${HEAD}ValueError: x\n`)).toEqual({ name: 'ValueError', classes: ['ValueError'] });
});
