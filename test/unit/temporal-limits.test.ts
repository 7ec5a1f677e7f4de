import { submissionAttributesOf, submissionSummaryOf, type SubmissionInput } from '../../contracts/submission';
import { limitAttribute, limitSummary } from '../../contracts/temporal-limits';

/** Names of functions and endpoints may be longer than Temporal takes, in any script. */

/** Temporal's `limit.userMetadataSummarySize`, of the payload; nonce, tag and key ID of an encrypted payload take up to 180. */
const MAX_SUMMARY_BYTES = 400 - 180;
const MAX_KEYWORD_CHARS = 255;
const SCRIPTS = ['a', 'é', '漢', '😀', '"', '\\', '\u0001', '\ud83d'];

test.each(SCRIPTS)('the start of a function with a name of 500 times %j is within the limits of Temporal', (char) => {
  const name = char.repeat(500);
  const names = { functionName: name, endpointName: name, ownerName: name };
  const ids = { submissionId: 's', taskQueueId: 'q', endpointId: 'e', ownerId: 'o', taskGroupId: 'g' };
  const input: SubmissionInput = { version: 1, ...ids, ...names, total: 1, deadlineMs: 0 };
  const summary = submissionSummaryOf(input, name);
  expect(Buffer.byteLength(JSON.stringify(summary))).toBeLessThanOrEqual(MAX_SUMMARY_BYTES);
  expect(name.startsWith(summary)).toBe(true);
  const keywords = submissionAttributesOf(input, () => true).flatMap(({ type, value }) => (type === 'KEYWORD' ? [value] : []));
  expect(keywords).toContain(char.repeat(MAX_KEYWORD_CHARS));
  for (const value of keywords) expect([...value].length).toBeLessThanOrEqual(MAX_KEYWORD_CHARS);
});

test('short texts stay as they are, and no character is cut in half', () => {
  expect(limitSummary('endpoint 漢字 "x"')).toBe('endpoint 漢字 "x"');
  expect(limitSummary(`a${'😀'.repeat(100)}`)).toBe(`a${'😀'.repeat(49)}`);
  expect(limitAttribute(`a${'😀'.repeat(300)}`)).toBe(`a${'😀'.repeat(254)}`);
});
