import { mayClaim } from '../../accepting/claim-at-insert';
import { configFor } from '../helpers/api-harness';

/** Which requests the insert may claim: their messages stay in memory until the broker has them. */

const KB = 1_024;
const config = configFor();
const calls = (codeBytes: number, ...payloadBytes: number[]) => [
  { functionId: 'f', functionName: 'f', codeBytes, payloads: payloadBytes.map((bytes) => 'x'.repeat(bytes)) },
];

test.each([
  ['small arguments and small code', calls(KB, KB), true],
  ['arguments and code that fill a message', calls(32 * KB, 32 * KB), true],
  ['large arguments', calls(KB, 64 * KB), false],
  ['small arguments of a function with large code', calls(1_000_000, 10), false],
  ['one small and one large function', [...calls(KB, 10), ...calls(64 * KB, 10)], false],
  ['many tasks', calls(KB, ...Array<number>(33).fill(10)), false],
])('%s: %#', (_what, given, expected) => {
  expect(mayClaim(config, { calls: given })).toBe(expected);
});
