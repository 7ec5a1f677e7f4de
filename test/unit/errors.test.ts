import {
  ensureError,
  ERROR_CATALOGUE,
  RetryableError,
  TASK_ERROR_CODES,
  TerminalError,
  type ErrorCode,
} from '../../contracts/errors';
import { readPage, tableRows } from '../helpers/readme';

const codes = Object.keys(ERROR_CATALOGUE) as ErrorCode[];
const page = tableRows(readPage('docs/errors.md'));

describe('the catalogue of errors', () => {
  test.each(codes)('docs/errors.md has %s with its status and its sentence', (code) => {
    const { status, meaning } = ERROR_CATALOGUE[code];
    expect(page.filter(([first]) => first === code)).toEqual([[code, String(status), meaning]]);
  });

  test.each(Object.entries(TASK_ERROR_CODES))('docs/errors.md has the task code %s', (code, meaning) => {
    expect(page.filter(([first]) => first === code)).toEqual([[code, meaning]]);
  });

  test('the page names no code that does not exist', () => {
    const known = new Set<string>([...codes, ...Object.keys(TASK_ERROR_CODES)]);
    expect(page.filter(([first]) => !known.has(first ?? ''))).toEqual([]);
  });

  test('no sentence is used twice, and each is one', () => {
    const sentences = [...Object.values(ERROR_CATALOGUE).map(({ meaning }) => meaning), ...Object.values(TASK_ERROR_CODES)];
    expect(new Set(sentences).size).toBe(sentences.length);
    for (const sentence of sentences) expect(sentence).toMatch(/^[A-Z].*\.$/);
  });

  test('an error knows its status, keeps its cause, and says when to try again only where that helps', () => {
    const cause = new Error('socket closed');
    const refused = new TerminalError('TASK_NOT_FOUND', 'no task 1', { cause });
    expect(refused).toMatchObject({ httpStatus: 404, cause, retryAfterS: undefined, name: 'TerminalError' });
    const later = new RetryableError('the broker is away', { cause, retryAfterS: 7 });
    expect(later).toMatchObject({ code: 'UNAVAILABLE', httpStatus: 503, cause, retryAfterS: 7 });
    expect(new RetryableError('the broker is away').retryAfterS).toBe(1);
  });

  test('whatever is thrown becomes an error', () => {
    const error = new Error('x');
    expect(ensureError(error)).toBe(error);
    expect(ensureError('y').message).toBe('y');
  });
});
