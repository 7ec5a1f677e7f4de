/**
 * Submission and task IDs. No other file makes or parses them.
 *
 * UUID version 8: 48 bits of Unix milliseconds, 54 random bits, 20 bits of index. Index 0 is the submission; its tasks have
 * indexes from 1. A task ID therefore yields its submission without a query, and tables are partitioned by day on the ID.
 * Knowing an ID grants no permission.
 */

const INDEX_BITS = 20;
export const MAX_TASK_INDEX = (1 << INDEX_BITS) - 1;
export const ID_RANDOM_BYTES = 7;

/** A lower-case UUID with dashes, of any version. */
export const UUID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export function isUuid(text: string): boolean {
  return UUID_PATTERN.test(text);
}

function fromHex(hex: string): string {
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** Layout: 48 bits time, 4 bits version, 12 random, 2 bits variant, 42 random, 20 index. */
export function makeSubmissionId(nowMs: number, random: Uint8Array): string {
  if (random.length < ID_RANDOM_BYTES) throw new RangeError(`a submission ID needs ${ID_RANDOM_BYTES} random bytes`);
  let bits = 0n;
  for (const byte of random.subarray(0, ID_RANDOM_BYTES)) bits = (bits << 8n) | BigInt(byte);
  const high = (bits >> 42n) & 0xfffn;
  const low = bits & 0x3ffffffffffn;
  const value = (BigInt(nowMs) << 80n) | (8n << 76n) | (high << 64n) | (2n << 62n) | (low << 20n);
  return fromHex(value.toString(16).padStart(32, '0'));
}

/** The last random bits, which instead number the submissions that share a workflow, so that their IDs are consecutive. */
const SHARED_BITS = 11;
export const MAX_SHARED_SUBMISSIONS = 1 << SHARED_BITS;

/** In order. No other ID lies between the first and the last one, so conditions on a range of IDs cover all of them. */
export function makeSharedIds(nowMs: number, random: Uint8Array, count: number): string[] {
  if (count > MAX_SHARED_SUBMISSIONS) throw new RangeError(`${count} submissions cannot share a workflow`);
  const shift = BigInt(INDEX_BITS + SHARED_BITS);
  const value = (BigInt(`0x${makeSubmissionId(nowMs, random).replaceAll('-', '')}`) >> shift) << shift;
  return Array.from({ length: count }, (_, n) =>
    fromHex((value + (BigInt(n) << BigInt(INDEX_BITS))).toString(16).padStart(32, '0')),
  );
}

/** The ID of the task with this index (1 to {@link MAX_TASK_INDEX}) in a submission. */
export function taskIdOf(submissionId: string, index: number): string {
  if (!Number.isInteger(index) || index < 1 || index > MAX_TASK_INDEX) {
    throw new RangeError(`a task index must be between 1 and ${MAX_TASK_INDEX}, not ${index}`);
  }
  return submissionId.slice(0, 31) + index.toString(16).padStart(5, '0');
}

/** The submission ID of a task ID. A submission ID maps to itself. */
export function submissionIdOf(taskId: string): string {
  return taskId.slice(0, 31) + '00000';
}

export function maxTaskIdOf(submissionId: string): string {
  return submissionId.slice(0, 31) + 'fffff';
}

/** The index of a task within its submission; 0 for a submission ID. */
export function taskIndexOf(taskId: string): number {
  return parseInt(taskId.slice(31), 16);
}

/** When the ID was made; Unix milliseconds. */
export function idTimeMs(id: string): number {
  return parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}

/** The lowest and the highest ID that start with these characters, with or without dashes. */
export function idsOfPrefix(prefix: string): { from: string; to: string } {
  const hex = prefix.toLowerCase().replaceAll('-', '');
  return { from: fromHex(hex.padEnd(32, '0')), to: fromHex(hex.padEnd(32, 'f')) };
}

/** The lowest ID of a millisecond: the lower bound of a partition. */
export function lowestIdAt(ms: number): string {
  return fromHex(BigInt(ms).toString(16).padStart(12, '0').padEnd(32, '0'));
}
