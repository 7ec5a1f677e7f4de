/**
 * Submission and task ids, made and parsed here only.
 *
 * UUID version 8: 48 bits of Unix milliseconds, 54 random bits, 20 bits of index. Index 0 is the submission itself, its
 * tasks count from 1. So a result finds its submission without a look-up, and tables partition by day on the id.
 * An id is never a permission.
 */

const INDEX_BITS = 20;
export const MAX_TASK_INDEX = (1 << INDEX_BITS) - 1;
/** Random bytes that {@link makeSubmissionId} takes. */
export const ID_RANDOM_BYTES = 7;

const UUID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** True for a lower-case UUID with dashes, of any version. */
export function isUuid(text: string): boolean {
  return UUID_PATTERN.test(text);
}

function fromHex(hex: string): string {
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/**
 * Makes the id of a new submission. The caller gives the time and {@link ID_RANDOM_BYTES} random bytes.
 * Layout: 48 bits time, 4 bits version, 12 random, 2 bits variant, 42 random, 20 index.
 */
export function makeSubmissionId(nowMs: number, random: Uint8Array): string {
  if (random.length < ID_RANDOM_BYTES) throw new RangeError(`an id takes ${ID_RANDOM_BYTES} random bytes`);
  let bits = 0n;
  for (const byte of random.subarray(0, ID_RANDOM_BYTES)) bits = (bits << 8n) | BigInt(byte);
  const high = (bits >> 42n) & 0xfffn;
  const low = bits & 0x3ffffffffffn;
  const value = (BigInt(nowMs) << 80n) | (8n << 76n) | (high << 64n) | (2n << 62n) | (low << 20n);
  return fromHex(value.toString(16).padStart(32, '0'));
}

/** The id of the task with this index (1 .. {@link MAX_TASK_INDEX}) in a submission. */
export function taskIdOf(submissionId: string, index: number): string {
  if (!Number.isInteger(index) || index < 1 || index > MAX_TASK_INDEX) {
    throw new RangeError(`a task index lies between 1 and ${MAX_TASK_INDEX}: ${index}`);
  }
  return submissionId.slice(0, 31) + index.toString(16).padStart(5, '0');
}

/** The submission that a task belongs to. A submission id is its own submission. */
export function submissionIdOf(taskId: string): string {
  return taskId.slice(0, 31) + '00000';
}

/** The index of a task within its submission; 0 for a submission id. */
export function taskIndexOf(taskId: string): number {
  return parseInt(taskId.slice(31), 16);
}

/** Unix milliseconds at which the id was made. */
export function idTimeMs(id: string): number {
  return parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}

/** The smallest id of a moment: the border of a partition. */
export function lowestIdAt(ms: number): string {
  return fromHex(BigInt(ms).toString(16).padStart(12, '0').padEnd(32, '0'));
}
